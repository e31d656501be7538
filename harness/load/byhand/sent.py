"""What is sent by hand: asked for with Locust's options, and prepared."""

from __future__ import annotations

import argparse
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.errors import EnvironmentFailedError, UsageError
from harness.load.byhand.options import above_zero, count_from_1
from harness.load.metadata import ask
from harness.load.pools import Pools
from harness.load.target import Target
from harness.point import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.load.senders import Pool
    from harness.point import Load

__all__ = ["Asked", "Sent", "asked_of", "prepared"]

CONNECT_S = 5.0


@dataclass(frozen=True)
class Asked:
    """What was asked for: Locust's options, which its web interface may change before each start.

    Attributes:
        host: as Locust has it, such as ``http://127.0.0.1:8000``.
        model: its name.
        grpc_host: ``host:port``; empty for that of ``host``, port 8001.
        reference: path of a :mod:`harness.reference` file; empty for random inputs.
        tolerance: how far a value may lie from the reference.
        request_timeout_s: for one request.
        seed: seeds every random choice.
        workload: protocol and client batch size.
        run_dir: where the run is written down; empty for nowhere.
    """

    host: str
    model: str
    grpc_host: str
    reference: str
    tolerance: float
    request_timeout_s: float
    seed: int
    workload: Workload
    run_dir: str


@dataclass(frozen=True)
class Sent:
    """What is sent in a session.

    Attributes:
        target: where it goes.
        workload: what it is.
        pool: the same, prepared.
        load: how much of it so many users make.
        request_timeout_s: for one request.
        seed: seeds every random choice.
    """

    target: Target
    workload: Workload
    pool: Pool
    load: Callable[[int], Load]
    request_timeout_s: float
    seed: int


def asked_of(host: str, options: Any) -> Asked:  # noqa: ANN401 - Locust's parsed options
    """Read Locust's options; what its web interface changed has passed no check of the command line.

    Raises:
        UsageError: one of them is nothing that can be sent.
    """
    try:
        batch_size = count_from_1(str(options.batch_size))
        tolerance = above_zero(str(options.tolerance))
        request_timeout_s = above_zero(str(options.request_timeout))
    except argparse.ArgumentTypeError as error:
        raise UsageError(
            str(error), remedy="Mend batch size, tolerance or time-out, and start again"
        ) from None
    if options.protocol not in ("http", "grpc"):
        raise UsageError(
            f"{options.protocol!r} is no protocol here", remedy="Give --protocol http or grpc"
        )
    return Asked(
        host=host,
        model=options.model,
        grpc_host=options.grpc_host,
        reference=options.reference,
        tolerance=tolerance,
        request_timeout_s=request_timeout_s,
        seed=options.seed,
        workload=Workload(protocol=options.protocol, batch_size=batch_size),
        run_dir=options.run_dir,
    )


def prepared(asked: Asked, load: Callable[[int], Load]) -> Sent:
    """Look at the server and the model, and make the requests.

    Raises:
        UsageError: the host is none, or the model does not take what is asked for.
        EnvironmentFailedError: the server does not answer, or not on that protocol.
    """
    target = _target(asked)
    if asked.workload.protocol == "grpc":
        _look_for_grpc(target.grpc or "")
    return Sent(
        target=target,
        workload=asked.workload,
        pool=Pools("raw", asked.seed).get(target, asked.workload),
        load=load,
        request_timeout_s=asked.request_timeout_s,
        seed=asked.seed,
    )


def _look_for_grpc(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if not port.isdecimal():
            raise OSError("no port")
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise EnvironmentFailedError(
            f"the server offers no gRPC there ({error.strerror or error})",
            where=address,
            remedy="Give its address with --grpc-host, or send over HTTP",
        ) from error


def _target(asked: Asked) -> Target:
    parts = urlsplit(asked.host if "//" in asked.host else f"//{asked.host}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:  # such as port 99999
        host = port = None
    if parts.scheme not in ("", "http") or not host:
        raise UsageError(
            f"{asked.host!r} is no host that can be loaded",
            remedy="Give --host http://127.0.0.1:8000",
        )
    name = f"[{host}]" if ":" in host else host
    http = f"{name}:{port or 8000}"
    config = ask(http, f"models/{asked.model}/config")
    return Target(
        http=http,
        grpc=asked.grpc_host or f"{name}:8001",
        model=asked.model,
        batched=int(config.get("max_batch_size", 0)) > 0,
        reference=Path(asked.reference) if asked.reference else None,
        tolerance=asked.tolerance,
    )
