"""The options that every ``tritonserver`` of the harness is started with, in a container or not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EXIT_TIMEOUT_S", "server_options"]

EXIT_TIMEOUT_S = 4  # for requests in flight and stubs when it ends; a stub takes 2 s
METRICS_INTERVAL_MS = 200
HTTP_THREADS = 8  # Triton's default
OWNED = re.compile(
    r"--(model-(repository|store|control-mode)|(http|grpc|metrics)-port|load-model|backend-directory"
    r"|cache-directory|repository-poll-secs|log-file)\b"
)


def server_options(extra_args: Sequence[str], *, address: str, gpu: bool) -> list[str]:
    """The options that say how a server works; paths and ports are not among them.

    Args:
        extra_args: the user's own, which come last and so win.
        address: what its endpoints listen on.
        gpu: whether it is to look for GPUs.

    Raises:
        UsageError: an option that is the harness's own.
    """
    for argument in extra_args:
        if OWNED.match(argument):
            raise UsageError(
                f"the option {argument.split('=')[0]} is the harness's own",
                where="server.extra_args",
                remedy="Leave it out",
            )
    options = [
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--exit-on-error=false",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        f"--http-address={address}",
        f"--grpc-address={address}",
        f"--metrics-address={address}",
        f"--http-thread-count={HTTP_THREADS}",
        f"--metrics-interval-ms={METRICS_INTERVAL_MS}",
    ]
    if not gpu:
        # Else it fills the log with the libraries that it does not find.
        options += ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
    return [*options, *extra_args]
