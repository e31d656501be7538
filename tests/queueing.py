"""A served model as a queue in simulated time, with a truth that is known."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.load.courses import times_of
from harness.point import ClosedLoad, Point

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Machine:
    """The truth behind a simulated run.

    Attributes:
        fixed_ms, per_inference_ms: an execution of n inferences takes ``fixed + n·per_inference``.
        cores: executions that make progress at once; more instances than that slow each other down.
        noise: coefficient of variation of one execution (lognormal); 0 is deterministic.
        exponential: executions take an exponential time of the same mean instead (then ``noise`` is unused).
        network_ms: what client and network add to every latency.
        gap_ms: time between an answer and the same user's next send.
        drift: coefficient of variation of the machine's speed from pass to pass.
    """

    fixed_ms: float = 1.0
    per_inference_ms: float = 0.25
    cores: int = 2
    noise: float = 0.1
    exponential: bool = False
    network_ms: float = 0.15
    gap_ms: float = 0.03
    drift: float = 0.03

    def execution_ms(self, inferences: int, instances: int = 1) -> float:
        """Mean time of one execution of ``inferences`` while all instances work."""
        return (self.fixed_ms + self.per_inference_ms * inferences) * max(1, instances / self.cores)


@dataclass
class Request:
    """One request on its way through the simulated server; times in seconds."""

    user: int
    scheduled: float
    sent: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    executed: int = 0  # inferences in the execution that it was part of
    answers: int = 1  # requests in that execution


class Queue:
    """Instances that take what has waited longest; with dynamic batching, as much of it as fits.

    Args:
        point: configuration, workload and load.
        machine: the truth.
        rng: the only source of chance.
        speed: how fast the machine is in this pass; 1 is as :class:`Machine` says.
    """

    def __init__(
        self, point: Point, machine: Machine, rng: np.random.Generator, speed: float = 1.0
    ) -> None:
        self.point, self.machine, self.rng, self.speed = point, machine, rng, speed
        batching = point.configuration.dynamic_batching is not None
        limit = point.configuration.max_batch_size // point.workload.batch_size
        self.most = max(1, limit) if batching else 1
        self.free = point.configuration.instances
        self.waiting: deque[Request] = deque()
        self.held: deque[Request] = deque()  # due in an open load, with as many in flight as may be
        self.in_flight = 0
        self.answered: list[Request] = []
        self.now = 0.0
        self.shape_start_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def run(self, duration_s: float) -> list[Request]:
        """Every request answered within ``duration_s``, in the order of completion."""
        self._begin(duration_s)
        while self._events:
            self.now, _, happen = heapq.heappop(self._events)
            if self.now > duration_s:
                break
            happen()
        return self.answered

    def _after(self, delay_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, self._number, happen))
        self._number += 1

    def _begin(self, duration_s: float) -> None:
        load = self.point.load
        if isinstance(load, ClosedLoad):
            for user in range(load.concurrency):
                self._due(user, float(self.rng.uniform(0, 1e-3)))
            return
        if load.kind == "shaped":
            chance = int(self.rng.integers(2**31))
            for number, moment in enumerate(np.concatenate([*times_of(load, chance).chunks()])):
                self._due(number % load.max_in_flight, self.shape_start_s + float(moment))
            return
        count = int(load.rate * duration_s * 1.5) + 20
        poisson = load.arrivals == "poisson"
        gaps = self.rng.exponential(1, count) if poisson else np.ones(count)
        for number, moment in enumerate(np.cumsum(gaps) / load.rate):
            self._due(number % load.max_in_flight, float(moment))

    def _due(self, user: int, delay_s: float) -> None:
        request = Request(user, self.now + delay_s)
        self._after(delay_s, lambda: self._send(request))

    def _send(self, request: Request) -> None:
        load = self.point.load
        if not isinstance(load, ClosedLoad) and self.in_flight >= load.max_in_flight:
            self.held.append(request)
            return
        self.in_flight += 1
        request.sent = self.now
        self._after(self.machine.network_ms / 2e3, lambda: self._arrive(request))

    def _arrive(self, request: Request) -> None:
        self.waiting.append(request)
        self._execute()

    def _execute(self) -> None:
        while self.free and self.waiting:
            batch = [self.waiting.popleft() for _ in range(min(self.most, len(self.waiting)))]
            inferences = len(batch) * self.point.workload.batch_size
            for request in batch:
                request.started, request.executed, request.answers = (
                    self.now,
                    inferences,
                    len(batch),
                )
            self.free -= 1
            self._after(self._execution_s(inferences), lambda batch=batch: self._finish(batch))

    def _execution_s(self, inferences: int) -> float:
        mean_ms = self.machine.execution_ms(inferences, self.point.configuration.instances)
        if self.machine.exponential:
            factor = self.rng.exponential()
        else:
            sigma = np.sqrt(np.log1p(self.machine.noise**2))
            factor = self.rng.lognormal(-(sigma**2) / 2, sigma)
        return mean_ms / 1e3 * float(factor) / self.speed

    def _finish(self, batch: list[Request]) -> None:
        self.free += 1
        for request in batch:
            request.finished = self.now
            self._after(
                self.machine.network_ms / 2e3, lambda request=request: self._answer(request)
            )
        self._execute()

    def _answer(self, request: Request) -> None:
        self.answered.append(request)
        self.in_flight -= 1
        if isinstance(self.point.load, ClosedLoad):
            self._due(request.user, self.machine.gap_ms / 1e3)
        elif self.held:
            self._send(self.held.popleft())
