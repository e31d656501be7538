"""Hands the due requests of an open loop to users that are free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
from gevent.event import AsyncResult, Event

from harness.load.timer import Timer

if TYPE_CHECKING:
    from harness.load.arrivals import Schedule

__all__ = ["Dispatcher"]


class Dispatcher:
    """Hands each request of a schedule to a free user when it is due, whatever the others do.

    When no user is free (the cap on requests in flight is reached) the request waits, and keeps the time
    at which it was due. The user that became free last goes first: few connections are in use, and warm.

    Args:
        schedule: when requests are due.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._free: list[AsyncResult[int | None]] = []
        self._handed: list[int] = []  # to users who have not woken up yet
        self._freed = Event()
        self._stopped = False
        self._greenlet = gevent.spawn(self._run)

    def take(self) -> int | None:
        """Wait, as a free user, for a request; return when it was due, ``None`` when there are no more."""
        if self._stopped:
            return None
        offer: AsyncResult[int | None] = AsyncResult()
        self._free.append(offer)
        self._freed.set()
        due_ns: int | None = offer.get()
        if due_ns is not None:
            self._handed.remove(due_ns)
        return due_ns

    def unsent(self, start_ns: int, end_ns: int) -> int:
        """How many requests were due from ``start_ns`` up to ``end_ns`` and no user has taken up yet."""
        handed = sum(start_ns <= due_ns < end_ns for due_ns in self._handed)
        return self._schedule.untaken(start_ns, end_ns) + handed

    def follow(self, schedule: Schedule) -> None:
        """Go over to another schedule; what was due by the old one and waits is never sent."""
        self._greenlet.kill()
        self._schedule = schedule
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Hand out nothing more; what is due and waits is never sent."""
        self._stopped = True
        self._greenlet.kill()
        while self._free:
            self._free.pop().set(None)

    def _run(self) -> None:
        timer = Timer()
        try:
            while (due_ns := self._schedule.next_ns()) is not None:
                timer.wait_until(due_ns)
                while not self._free:
                    self._freed.clear()
                    self._freed.wait()
                self._schedule.take()
                self._handed.append(due_ns)
                self._free.pop().set(due_ns)
        finally:
            timer.close()
