"""Loopback ports: free ones picked, given ones checked."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from harness.errors import EnvironmentFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LOOPBACK", "PortTakenError", "choose_ports", "started"]

LOOPBACK = "127.0.0.1"
LARGEST = 65535
ATTEMPTS = 3  # at ports that were free when they were picked

ServerT = TypeVar("ServerT")


class PortTakenError(EnvironmentFailedError):
    """A port was free when it was picked, and somebody else was quicker."""


def started(start: Callable[[], ServerT], *, given: bool) -> ServerT:
    """Start a server; again where somebody took a port between picking and using it.

    Args:
        start: picks ports and starts it on them.
        given: every port is given, so that there are none to pick anew.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return start()
        except PortTakenError:
            if given:
                raise
    return start()


def choose_ports(wanted: dict[str, int], host: str = LOOPBACK) -> dict[str, int]:
    """Return a free port for each name: the one wanted, or any where that is 0.

    All are held at once while choosing, so no two are the same. Somebody else may still take one before
    the server does.

    Args:
        wanted: ports by name, such as ``{"http": 8000, "grpc": 0}``.
        host: the address they will be bound to.

    Raises:
        UsageError: a number is no port, or is given twice.
        EnvironmentFailedError: a given port is taken or not allowed.
    """
    given = [port for port in wanted.values() if port]
    for name, port in wanted.items():
        if not 0 <= port <= LARGEST:
            raise UsageError(f"{port} is no port for {name}", remedy=f"Give 1 to {LARGEST}, or 0")
        if port and given.count(port) > 1:
            raise UsageError(
                f"port {port} is given twice", remedy="Give each endpoint its own, or 0"
            )
    with ExitStack() as held:
        chosen = {}
        # The given ones first: a picked one must not take them.
        for name, port in sorted(wanted.items(), key=lambda item: item[1] == 0):
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            # Connections of a former server that linger in TIME_WAIT do not matter; a listener does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen()
            except OSError as error:
                raise _refused(name, port, error) from error
            chosen[name] = probe.getsockname()[1]
    return {name: chosen[name] for name in wanted}


def _refused(name: str, port: int, error: OSError) -> EnvironmentFailedError:
    reasons = {
        errno.EADDRINUSE: f"port {port}, wanted for {name}, is taken by another program",
        errno.EACCES: f"port {port}, wanted for {name}, may not be used by this user",
    }
    return EnvironmentFailedError(
        reasons.get(error.errno or 0, f"port {port} for {name} cannot be used ({error.strerror})"),
        remedy="Choose another one, or 0 to have a free one picked",
    )
