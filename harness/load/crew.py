"""The users of a run: they take level after level, between two requests, and are never killed."""

from __future__ import annotations

import contextlib
import gc
import time
from typing import TYPE_CHECKING

from gevent.event import Event

from harness.errors import EnvironmentFailedError
from harness.load.arrivals import Schedule
from harness.load.courses import lead_in, times_of
from harness.load.dispatcher import Dispatcher
from harness.load.health import Readings
from harness.load.heart import Heart
from harness.load.level import Sending
from harness.load.outcomes import FailedRequestError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from harness.load.level import Level
    from harness.load.senders import Link
    from harness.point import Workload

__all__ = ["Crew"]


class Crew:
    """Users, and the level that they work at.

    Args:
        spawn: makes sure that so many users run; each calls :meth:`work` with a number of its own.
        connect: makes a connection for one user of a workload, not yet open.

    Attributes:
        level: what they work at; ``None`` while all are parked.
        heart: its readings are those since the level began, or the one before a pause.
    """

    def __init__(self, spawn: Callable[[int], None], connect: Callable[[Workload], Link]) -> None:
        self.level: Level | None = None
        self._spawn = spawn
        self._connect = connect
        self._links: dict[tuple[int, str], Link] = {}
        self._changed = Event()
        self._working: set[int] = set()
        self._idle = Event()
        self._dispatcher: Dispatcher | None = None
        self.heart = Heart()

    def start(self, level: Level, timeout_s: float) -> None:
        """Let the users go over to a level; return once each of its users has sent.

        In an open loop, of whatever shape, it is the schedule that says when a user sends: there each of them is connected,
        and the schedule has begun.

        Raises:
            EnvironmentFailedError: they are not so far within ``timeout_s``.
            UsageError: the file of a replay is no longer what it was.
        """
        if (
            level.load.kind == "shaped"
        ):  # before anything is sent: to read a long replay takes seconds
            level.course = times_of(level.load, level.seed)
        self._spawn(level.users)
        self._change(level)
        if not level.all_begun.wait(timeout_s):
            raise EnvironmentFailedError(
                f"not all {level.users} users could begin within {timeout_s:g} s",
                remedy="Look whether the server answers at all, or lower the concurrency",
            )
        load = level.load
        if load.kind != "closed":
            seed = level.seed
            times = lead_in(load, seed) if load.kind == "shaped" else times_of(load, seed)
            self._dispatcher = Dispatcher(Schedule(times, time.monotonic_ns()))
            level.opened.set(self._dispatcher)

    def launch(self) -> int:
        """Begin the shape of the level, whose first rate was sent so far; say when, CLOCK_MONOTONIC in ns.

        Raises:
            EnvironmentFailedError: the level has none, or is over.
        """
        level = self.level
        if level is None or level.course is None or self._dispatcher is None:
            raise EnvironmentFailedError("no load with a shape is being sent")
        start_ns = time.monotonic_ns()
        self._dispatcher.follow(Schedule(level.course, start_ns))
        return start_ns

    def left(self) -> int:
        """Requests that are due and not sent yet, and those in flight."""
        flying = len(self.level.flying) if self.level else 0
        return self.unsent(0, time.monotonic_ns()) + flying

    def pause(self, timeout_s: float) -> None:
        """Park all users once what they sent is answered.

        Raises:
            EnvironmentFailedError: some request was not answered within ``timeout_s``.
        """
        self._change(None)
        if self._working and not self._idle.wait(timeout_s):
            raise EnvironmentFailedError(
                f"{len(self._working)} requests were not answered within {timeout_s:g} s",
                remedy="Look whether the server answers at all",
            )

    def unsent(self, start_ns: int, end_ns: int) -> int:
        """Requests of an open loop that were due within a window and are not sent yet."""
        return self._dispatcher.unsent(start_ns, end_ns) if self._dispatcher else 0

    def disconnect(self) -> None:
        """Close every connection; for parked users."""
        links, self._links = self._links, {}
        for link in links.values():
            link.close()

    def close(self) -> None:
        """End the level and close every connection, whatever is in flight."""
        self._change(None)
        self.heart.stop()
        self.disconnect()

    def work(self, user: int) -> NoReturn:
        """Be user number ``user``: send while the level wants that, and wait while it does not."""
        while True:
            level = self.level
            if level is None or user >= level.users:
                self._changed.wait()
                continue
            self._working.add(user)
            try:
                self._take_part(level, user)
            finally:
                self._working.discard(user)
                if not self._working:
                    self._idle.set()

    def _take_part(self, level: Level, user: int) -> None:
        key = (user, level.workload.protocol)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = self._connect(level.workload)
        link.drop_if_stale()
        with contextlib.suppress(FailedRequestError):  # the first request will say so, too
            link.open(level.request_timeout_s)
        sending = Sending(level, link, user)
        level.begin(user)
        if level.load.kind == "closed":
            self._closed_loop(level, sending)
        else:
            self._open_loop(level, sending)

    def _closed_loop(self, level: Level, sending: Sending) -> None:
        while self.level is level:
            sending.one()
            if sending.backoff_s:
                level.over.wait(sending.backoff_s)

    def _open_loop(self, level: Level, sending: Sending) -> None:
        dispatcher = level.opened.get()
        while dispatcher is not None and (due_ns := dispatcher.take()) is not None:
            sending.one(due_ns)
            if sending.backoff_s:
                level.over.wait(sending.backoff_s)

    def _change(self, level: Level | None) -> None:
        # The new level stands before anybody wakes: a user that finds the old one would begin it again.
        before, self.level = self.level, level
        dispatcher, self._dispatcher = self._dispatcher, None
        changed, self._changed = self._changed, Event()
        self._idle.clear()
        if level is not None:
            self.heart.readings = Readings()
        if dispatcher is not None:
            dispatcher.stop()
        if before is not None:
            before.end()
        changed.set()
        gc.collect()
