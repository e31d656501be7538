"""One way to a server, whatever its kind: :func:`serving`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.servers import leftovers
from harness.servers.container.start import serving_container
from harness.servers.embedded.server import serving_embedded
from harness.servers.remote.server import serving_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.scenario import ServerSpec
    from harness.servers.server import Server

__all__ = ["serving"]

# Each kind is one module with one context manager of this signature.
KINDS: dict[str, Callable[..., AbstractContextManager[Server]]] = {
    "embedded": serving_embedded,
    "container": serving_container,
    "remote": serving_remote,
}


@contextmanager
def serving(spec: ServerSpec, repository: Path, *, logs: Path, run_id: str) -> Iterator[Server]:
    """Start the server that ``spec`` asks for, ready and with no model loaded; end it on every way out.

    A remote one is attached to instead, and goes on.

    Args:
        spec: kind, ports, cores, deadline.
        repository: a Triton model repository, one folder a model (see :mod:`harness.servers.staging`).
        logs: existing folder for the server's log.
        run_id: letters, digits, dots and hyphens; it marks all that the server leaves in the system.

    Raises:
        EnvironmentFailedError: no server environment or container engine, a port taken, or not ready within
            ``spec.ready_timeout_s``; with the log's last lines.
        UsageError: an option that is the harness's own.
    """
    leftovers.reap()
    with KINDS[spec.kind](spec, repository, logs=logs, run_id=run_id) as server:
        yield server
