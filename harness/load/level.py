"""One load level while it runs, and the sending of one request of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from gevent.event import AsyncResult, Event

from harness.load.outcomes import FailedRequestError
from harness.load.recorder import Recorder
from harness.records import Outcome

if TYPE_CHECKING:
    from harness.load.arrivals import Times
    from harness.load.dispatcher import Dispatcher
    from harness.load.senders import Link, Pool
    from harness.point import Load, Workload

__all__ = ["Level", "Sending"]

# After a failure of the connection or the server a user waits this long, twice as long after each
# further one: a user that fails fast would otherwise keep the generator busy with failing.
FIRST_BACKOFF_S = 0.01
LONGEST_BACKOFF_S = 0.5
IDLE_NS = 5_000_000  # after which a connection is looked at before it is used
# What a user answers with its next request at once, as its model would: the server works as it should.
NO_BACKOFF = (Outcome.OK, Outcome.WRONG_ANSWER, Outcome.REJECTED)
REASONS_KEPT = 100


class Level:
    """A load level and what was recorded of it.

    Args:
        workload: what is sent.
        load: how much of it.
        pool: the prepared requests.
        request_timeout_s: for one request, connecting left out.
        seed: seeds the request that each user begins with.

    Attributes:
        users: users that take part.
        recorder: its samples; a request that was sent for another level is not among them.
        reconnects: CLOCK_MONOTONIC of each connection that had to be opened again.
        flying: by user, when the request in flight was sent; users without one are not in it.
        reasons: how often each reason of a failure came up, for the log.
        seed: of its random choices.
        course: when the requests of a shape are due; ``None`` of any other load.
        all_begun: set once each user is connected and about to send.
        opened: of an open loop, the dispatcher of its requests once there is one.
        over: set when another level, or none, has begun.
    """

    def __init__(
        self,
        workload: Workload,
        load: Load,
        pool: Pool,
        *,
        request_timeout_s: float,
        seed: int,
    ) -> None:
        self.workload = workload
        self.load = load
        self.pool = pool
        self.request_timeout_s = request_timeout_s
        self.users = load.concurrency if load.kind == "closed" else load.max_in_flight
        self.recorder = Recorder()
        self.reconnects: list[int] = []
        self.flying: dict[int, int] = {}
        self.reasons: dict[str, int] = {}
        self.seed = seed
        self.course: Times | None = None
        self.all_begun = Event()
        self.opened: AsyncResult[Dispatcher | None] = AsyncResult()
        self.over = Event()
        self._begun: set[int] = set()
        rng = np.random.default_rng([seed, workload.batch_size, self.users])
        self._starts = rng.integers(len(pool.requests), size=self.users).tolist()

    def first_request(self, user: int) -> int:
        """The request that a user begins with; it goes on from there in order."""
        return int(self._starts[user % self.users])

    def begin(self, user: int) -> None:
        """Note that a user is about to send its first request."""
        self._begun.add(user)
        if len(self._begun) >= self.users:
            self.all_begun.set()

    def end(self) -> None:
        """Wake whoever waits for something of this level: it is over."""
        self.over.set()
        self.opened.set(None)

    def note(self, reason: str) -> None:
        """Count a reason of a failure; only the first hundred different ones are told apart."""
        if reason in self.reasons or len(self.reasons) < REASONS_KEPT:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1


class Sending:
    """One user sending requests of one level over one connection.

    Args:
        level: the level.
        link: the user's connection.
        user: its number.

    Attributes:
        level: the level.
        backoff_s: how long the user should wait before the next request; 0 after an answer.
        reason: what was wrong with the latest request, in words; ``None`` where nothing was.
        latency_ms: from sent to done of the latest request.
    """

    def __init__(self, level: Level, link: Link, user: int) -> None:
        self.backoff_s = 0.0
        self.reason: str | None = None
        self.latency_ms = 0.0
        self.level = level
        self._link = link
        self._user = user
        self._index = level.first_request(user)
        self._done_ns = time.monotonic_ns()
        self._count = len(level.pool.requests)

    def one(self, scheduled_ns: int = 0) -> None:
        """Send the next request, check the answer and record both.

        Args:
            scheduled_ns: when it was due; 0 in a closed loop, where that is when it is sent.
        """
        level, link, user, index = self.level, self._link, self._user, self._index
        self._index = (index + 1) % self._count
        checker = level.pool.checker
        timeout_s = level.request_timeout_s
        sent_ns = level.flying[user] = time.monotonic_ns()
        try:
            if sent_ns - self._done_ns > IDLE_NS:  # the server may have closed it meanwhile
                link.drop_if_stale()
            if not link.is_open:
                self._open()
                sent_ns = level.flying[user] = time.monotonic_ns()
            raw = link.exchange(level.pool.requests[index], checker.known[index], timeout_s)
            done_ns = time.monotonic_ns()
            outcome, compared, reason = checker.check(index, raw)
        except FailedRequestError as failed:
            done_ns = time.monotonic_ns()
            outcome, compared, reason = failed.outcome, False, failed.reason
        finally:
            level.flying.pop(user, None)
        level.recorder.add(
            scheduled_ns or sent_ns,
            sent_ns,
            done_ns,
            user,
            level.workload.batch_size,
            outcome,
            compared,
        )
        self._done_ns = done_ns
        self.latency_ms = (done_ns - (scheduled_ns or sent_ns)) / 1e6
        self.reason = reason
        if reason is not None:
            level.note(f"{outcome.name}: {reason}")
        if outcome in NO_BACKOFF:
            self.backoff_s = 0.0
        else:
            self.backoff_s = min(max(2 * self.backoff_s, FIRST_BACKOFF_S), LONGEST_BACKOFF_S)

    def _open(self) -> None:
        link = self._link
        link.open(self.level.request_timeout_s)
        if link.connections > 1:
            self.level.reconnects.append(time.monotonic_ns())
