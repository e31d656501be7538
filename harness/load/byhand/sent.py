"""What is sent by hand: asked for with Locust's options, and prepared."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.errors import EnvironmentFailedError, UsageError
from harness.load.byhand.options import above_zero, checked, count_from_0, count_from_1
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
        load: of one user.
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
    load: Load
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


def asked_of(host: str, options: Any, load: Load) -> Asked:  # noqa: ANN401 - Locust's parsed options
    """Read Locust's options; what its web interface changed has passed no check of the command line.

    Raises:
        UsageError: one of them is nothing that can be sent.
    """
    checked(
        (
            ("--batch-size", count_from_1, options.batch_size),
            ("--tolerance", above_zero, options.tolerance),
            ("--request-timeout", above_zero, options.request_timeout),
            ("--seed", count_from_0, options.seed),
        )
    )
    if options.protocol not in ("http", "grpc"):
        raise UsageError(
            f"{options.protocol!r} is no protocol here", remedy="Give --protocol http or grpc"
        )
    return Asked(
        host=host,
        model=options.model,
        grpc_host=options.grpc_host,
        reference=options.reference,
        tolerance=options.tolerance,
        request_timeout_s=options.request_timeout,
        seed=options.seed,
        workload=Workload(protocol=options.protocol, batch_size=options.batch_size),
        load=load,
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
        host.encode("idna")  # else gevent prints a traceback of its own
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EnvironmentFailedError(
            f"the server offers no gRPC there ({reason})",
            where=address,
            remedy="Give its address with --grpc-host, or send over HTTP",
        ) from error


def _target(asked: Asked) -> Target:
    try:
        parts = urlsplit(asked.host if "//" in asked.host else f"//{asked.host}")
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:  # such as port 99999, or half an IPv6 address
        scheme, host, port = "", None, None
    if scheme not in ("", "http") or not host:
        raise UsageError(
            f"{asked.host!r} is no host that can be loaded",
            remedy="Give --host http://127.0.0.1:8000",
        )
    name = f"[{host}]" if ":" in host else host
    http = f"{name}:{port or 8000}"
    config = ask(http, f"models/{asked.model}/config")
    largest = int(config.get("max_batch_size", 0)) or 1
    if asked.workload.batch_size > largest:
        raise UsageError(
            f"{asked.workload.batch_size} is above the {largest} that {asked.model} takes in one request",
            where="--batch-size",
            remedy="Give fewer, or a model with a larger max_batch_size",
        )
    return Target(
        http=http,
        grpc=asked.grpc_host or f"{name}:8001",
        model=asked.model,
        batched=int(config.get("max_batch_size", 0)) > 0,
        reference=Path(asked.reference) if asked.reference else None,
        tolerance=asked.tolerance,
    )
