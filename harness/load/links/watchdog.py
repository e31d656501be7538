"""One watch for the time-outs of all connections: a timer a request would cost more than all the rest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import gevent

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Watchdog", "Watched"]

INTERVAL_S = 0.02


class Watched(Protocol):
    """What a watchdog looks after.

    Attributes:
        deadline_ns: CLOCK_MONOTONIC at which it has waited too long; 0 while it waits for nothing.
    """

    deadline_ns: int

    def expire(self) -> None:
        """Give up waiting."""


class Watchdog:
    """Looks every 20 ms which of its connections has waited too long, and tells it."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._greenlet = gevent.spawn(self._run)

    def add(self, connection: Watched) -> None:
        """Look after a connection."""
        self._watched.add(connection)

    def remove(self, connection: Watched) -> None:
        """Look after it no longer."""
        self._watched.discard(connection)

    def close(self) -> None:
        """Stop."""
        self._greenlet.kill()

    def _run(self) -> NoReturn:
        while True:
            gevent.sleep(INTERVAL_S)
            now = time.monotonic_ns()
            for connection in self._watched:
                if 0 < connection.deadline_ns < now:
                    connection.expire()
