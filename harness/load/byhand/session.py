"""Load that is sent by hand: Locust says how many users there are, and each number of them is a level.

Locust starts and stops the users. While their number changes, what they send belongs to no level; once
it is reached, a level begins, and it ends when the number changes again.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import gevent
import numpy as np

from harness.errors import HarnessError
from harness.load.arrivals import Schedule
from harness.load.byhand.figures import tell
from harness.load.byhand.server_side import snapshot
from harness.load.courses import times_of
from harness.load.dispatcher import Dispatcher
from harness.load.health import Readings, health, most_in_flight
from harness.load.heart import Heart
from harness.load.level import Level
from harness.load.recorder import Recorder
from harness.point import ClosedLoad
from harness.records import SAMPLE_DTYPE
from harness.scenario import Measure
from harness.snapshot import difference
from harness.statistics.truncation import mser5

if TYPE_CHECKING:
    from harness.load.byhand.notebook import Notebook
    from harness.load.byhand.sent import Sent
    from harness.point import Load
    from harness.snapshot import Snapshot

__all__ = ["Session"]

log = logging.getLogger(__name__)

SETTLE_INTERVAL_S = 0.1
SHAPE_INTERVAL_S = 0.01
EDGE_INTERVAL_S = 0.5
TAIL_NS = 1_000_000_000  # for which the last requests of a shape are waited for
LATENCIES = 20_000
# Nobody collects the samples where no run directory is written: then there is an end to them.
MOST_UNCOLLECTED = 2_000_000


class Session:
    """Levels that follow the number of Locust's users.

    Args:
        sent: what is sent.
        notebook: where trials are written down; ``None`` for nowhere.

    Attributes:
        level: what the users work at; outside of a measured level, one whose samples nobody wants.
        dispatcher: of an open loop, while a level is measured.
        finished: whether a load with a shape has come to its end, or was left, while users are wanted.
    """

    def __init__(self, sent: Sent, notebook: Notebook | None) -> None:
        self._sent = sent
        self._notebook = notebook
        self._levels = 0
        self._heart = Heart()
        self._observers: list[gevent.Greenlet] = []
        self._measured = False
        self._users = 0
        self._wanted = 0
        self._dispatchers: dict[Level, Dispatcher] = {}
        self._forgotten_ns = 0
        self.finished = False
        self.dispatcher: Dispatcher | None = None
        self.level = self._level(ClosedLoad(concurrency=1))

    def joined(self) -> None:
        """One more user runs."""
        self._leave()
        self._users += 1
        self._begin_if_complete()

    def gone(self) -> None:
        """One user less runs."""
        self._leave()
        self._users -= 1
        self._begin_if_complete()

    def wanted(self, users: int) -> None:
        """So many users should run now; Locust says so before the last of them do."""
        if self._measured and users == self._users:
            return
        self._leave()
        self._wanted = users
        if not users:
            self.finished = False  # Locust may start them again
        self._begin_if_complete()

    def _begin_if_complete(self) -> None:
        if self._users != self._wanted or not self._users:
            return
        self.level.end()
        self.level = self._level(self._sent.load(self._users))
        self._measured = True
        self._heart.readings = Readings()
        if self.level.load.kind == "open":
            self._schedule(self.level)
        observer = gevent.spawn(self._observe, self.level, self._heart.readings)
        self._observers.append(observer)

    def _schedule(self, level: Level) -> int:
        """Begin the schedule of an open loop; return when, CLOCK_MONOTONIC in ns."""
        assert level.load.kind != "closed"  # noqa: S101 - which has none
        times = times_of(level.load, level.seed)
        start_ns = time.monotonic_ns()
        dispatcher = self._dispatchers[level] = Dispatcher(Schedule(times, start_ns))
        if level is self.level:
            self.dispatcher = dispatcher
        return start_ns

    def _leave(self) -> None:
        """The number of users changes: the level, if one was measured, is over."""
        if self._measured:
            self._measured = False
            self.level.end()
            self.finished = self.level.load.kind == "shaped"
            self.level = self._level(ClosedLoad(concurrency=1))
            self.dispatcher = None  # stopped by the observer, who counts what it has not sent

    def close(self) -> None:
        """End the level, and wait until it is written down; nothing can be sent in it any more."""
        self.wanted(0)
        gevent.joinall(self._observers)
        self._observers.clear()
        self._heart.stop()

    def _level(self, load: Load) -> Level:
        self._levels += 1
        sent = self._sent
        return Level(
            sent.workload,
            load,
            sent.pool,
            request_timeout_s=sent.request_timeout_s,
            seed=int(np.random.SeedSequence([sent.seed, self._levels]).generate_state(1)[0]),
        )

    def _observe(self, level: Level, readings: Readings) -> None:
        """Follow a level from its beginning to its end, and write it down."""
        seen: dict[str, Any] = {
            "started_utc": datetime.now(UTC),
            "level_start_ns": time.monotonic_ns(),
        }
        try:
            if level.load.kind == "shaped":
                seen["warmup_reason"] = "none: the shape is measured from its beginning"
            else:
                seen["warmup_reason"] = self._settle(level)
            self._window(level, seen)
        except HarnessError as error:
            log.warning("%s", error)
            seen["statistics_note" if "window_start_ns" in seen else "failure"] = str(error)
        end_ns = seen.get("window_end_ns", 0)
        window = (seen.get("window_start_ns", end_ns), end_ns)
        unsent = 0
        dispatcher = self._dispatchers.pop(level, None)
        if dispatcher is not None:
            unsent = dispatcher.unsent(*window)
            dispatcher.stop()
        samples = np.frombuffer(b"".join(level.recorder.buffers()), SAMPLE_DTYPE)
        if window[1] <= window[0]:
            seen.update(window_start_ns=None, window_end_ns=None)
            seen.setdefault("failure", "the level was left before its warm-up had passed")
        if "failure" in seen:
            seen["failure_ns"] = time.monotonic_ns()
        tell(level, samples, (max(window[0], self._forgotten_ns), window[1]))
        if self._notebook is None:
            return
        flying = np.array(list(level.flying.values()), np.int64)
        fared = health(
            np.frombuffer(readings.to_bytes(), np.int64).reshape(-1, 3),
            window,
            reconnects_ns=np.array(level.reconnects, np.int64),
            unsent=unsent,
            in_flight=most_in_flight(samples["sent_ns"], samples["done_ns"], flying, window),
            flying_ns=flying,
        )
        try:
            self._notebook.seal(
                level.workload,
                level.load,
                samples,
                generator=fared if seen["window_end_ns"] else None,
                statistics=seen.pop("statistics", None),
                **seen,
            )
        except HarnessError as error:
            log.error("%s", error)  # noqa: TRY400 - a sentence for the user

    def _window(self, level: Level, seen: dict[str, Any]) -> None:
        """Take the statistics at both edges of the window, which lasts until the level is left."""
        try:
            if level.load.kind == "shaped":
                self._shape(level, seen)
                return
            seen["window_start_ns"] = time.monotonic_ns()
            first = snapshot(self._sent.target)
            seen["window_start_ns"] = first.edge_ns
            last = self._last_edge(level) or snapshot(self._sent.target)
            seen["window_end_ns"] = last.edge_ns
            seen["statistics"] = difference(first, last)
        finally:
            self._wait(level)
            seen.setdefault("window_end_ns", time.monotonic_ns())

    def _last_edge(self, level: Level) -> Snapshot | None:
        """The last statistics that were taken while the level was on: the window ends with them.

        When the level is over other requests are sent, which would be counted by the server alone.
        """
        last = None
        while not level.over.wait(EDGE_INTERVAL_S):
            self._forget(level)
            taken = snapshot(self._sent.target)
            if not level.over.is_set():
                last = taken
        return last

    def _shape(self, level: Level, seen: dict[str, Any]) -> None:
        """Send a shape; whatever becomes of the statistics, it is sent, and its end ends the test."""
        first = None
        try:
            try:
                first = snapshot(self._sent.target)
            except HarnessError as error:
                log.warning("%s", error)
                seen["statistics_note"] = str(error)
            start_ns = seen["shape_start_ns"] = self._schedule(level)
            seen["window_start_ns"] = first.edge_ns if first else start_ns
            if not self._ends(level, start_ns):
                seen["failure"] = "the shape was left before its end"
        finally:
            if level is self.level:
                self.finished = True
        seen["window_end_ns"] = time.monotonic_ns()
        if first:
            last = snapshot(self._sent.target)
            seen["window_end_ns"] = last.edge_ns
            seen["statistics"] = difference(first, last)

    def _ends(self, level: Level, start_ns: int) -> bool:
        """Wait until a shape has come to its end and is answered; whether it has, or was left before."""
        assert level.load.kind == "shaped"  # noqa: S101 - else there is no end
        end_ns = start_ns + round(level.load.duration_s * 1e9)
        while not level.over.wait(SHAPE_INTERVAL_S):
            now_ns = time.monotonic_ns()
            waiting = self._dispatchers[level].unsent(0, now_ns) + len(level.flying)
            if now_ns >= end_ns and (not waiting or now_ns >= end_ns + TAIL_NS):
                break
        return time.monotonic_ns() >= end_ns

    def _wait(self, level: Level) -> None:
        while not level.over.wait(1):
            self._forget(level)

    def _forget(self, level: Level) -> None:
        if self._notebook is None and len(level.recorder) > MOST_UNCOLLECTED:
            level.recorder = Recorder()
            self._forgotten_ns = time.monotonic_ns()
            log.info("figures are of what follows from here on: --run-dir keeps everything")

    def _settle(self, level: Level) -> str:
        """Wait until the warm-up has passed, and say how that was judged."""
        start = time.monotonic()
        level.over.wait(Measure().warmup_min_s)
        while True:
            found = mser5(level.recorder.latencies_ms(LATENCIES))
            elapsed_s = time.monotonic() - start
            if found.settled or level.over.is_set():
                return f"{elapsed_s:.2f} s, {found.reason}"
            if elapsed_s >= Measure().warmup_max_s:
                return f"{elapsed_s:.2f} s, the longest allowed; {found.reason}"
            level.over.wait(SETTLE_INTERVAL_S)
