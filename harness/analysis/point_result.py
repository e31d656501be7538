"""What an analysis finds of one point: rates, latencies, where the time went, and what to think of it.

Everything here is frozen and plain; :mod:`harness.analysis.points` fills it in. Times are in milliseconds,
throughput in inferences per second, CPU in cores (1.0 is one core kept busy).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.analysis.metrics import UNKNOWN, WindowMetrics
from harness.analysis.verdicts import Verdict
from harness.records import Outcome
from harness.statistics.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.analysis.course import Slice
    from harness.point import Point

NOTHING = Interval(math.nan)

__all__ = ["Arrivals", "Breakdown", "Percentile", "PointResult"]


@dataclass(frozen=True)
class Percentile:
    """A percentile of the latency of right answers, pooled over the passes.

    Attributes:
        q: the quantile, such as 0.99.
        interval_ms: estimate and 95 % interval; ``None`` where the samples do not support it.
        samples: how many there are.
        needs: how many it takes.
    """

    q: float
    interval_ms: Interval | None
    samples: int
    needs: int

    @property
    def text(self) -> str:
        """The estimate in ms, or what is missing: ``needs 459``."""
        if self.interval_ms is None:
            return f"needs {self.needs:,}"
        return f"{self.interval_ms.estimate:.3g}"


@dataclass(frozen=True)
class Breakdown:
    """Where the mean latency of a request went, in ms; the parts add up to it.

    The server's parts are means over all requests that succeeded. One that the response cache answered
    computed nothing, so with a cache the compute parts are smaller than an execution takes.

    Attributes:
        client_and_network_ms: mean latency as the client saw it less the server's mean request time.
        queue_ms: waiting in Triton's queue for an instance or for a batch.
        compute_input_ms, compute_infer_ms, compute_output_ms: as Triton's statistics extension has them.
        server_other_ms: the rest of the server's request time, such as looking into the response cache.
        waiting_to_send_ms: from the scheduled to the actual send; 0 in a closed loop.
    """

    client_and_network_ms: float
    queue_ms: float
    compute_input_ms: float
    compute_infer_ms: float
    compute_output_ms: float
    server_other_ms: float
    waiting_to_send_ms: float = 0.0


@dataclass(frozen=True)
class Arrivals:
    """What became of an open load's schedule.

    Attributes:
        offered_rps: the rate that was asked for.
        due_rps: requests that were due per second.
        sent_rps: requests that were sent per second.
        achieved_rps: requests that ended per second, whatever the answer.
        unsent: requests that were due within the windows and never sent.
        late: requests sent more than 1 ms after they were due.
        slip_p99_ms: how late requests were sent (p99 of a pass; the median over the passes). It has no interval, so it is
            held against its bound and not published: response and service time beside each other show it.
        capped: whether as many requests were in flight as may be, so that others had to wait.
    """

    offered_rps: float
    due_rps: float
    sent_rps: float
    achieved_rps: float
    unsent: int
    late: int
    slip_p99_ms: float
    capped: bool


@dataclass(frozen=True)
class PointResult:
    """One point over all of its passes. Sentinel trials are not among them.

    Attributes:
        point: configuration, workload and load.
        trials: indices of the trials it was measured in, failed ones included.
        passes: how many of them have a whole window.
        window_s: the sum of their windows.
        requests: requests that ended within the windows, failures included.
        failures: how many of those ended otherwise than with a right answer, by kind.
        failure_ms: mean latency of those, by kind; it never enters the latency of right answers.
        throughput: inferences per second with a right answer; its interval is from the passes.
        throughput_of_pass: the same, by pass index.
        goodput: the same, of right answers within the SLO's bound on p99 only; without one, ``throughput``.
        latency_mean_ms: of right answers; its interval is from the passes. In an open loop latencies are
            *response times*: they count from the scheduled send.
        percentiles: p50, p90, p95 and p99 of the latency of right answers, by quantile.
        service_mean_ms, service_percentiles: the same from the actual send; equal in a closed loop.
        client_gap_ms: mean time between an answer and the same user's next send; ``None`` in an open loop.
        client_cpu_cores, server_cpu_cores: CPU used within the windows; the server's Python stubs included.
        other_cpu_cores: CPU that all other processes of this machine used meanwhile.
        server_rss_bytes: the largest resident memory of the server and its stubs together.
        metrics: pending requests, energy and GPUs within the windows, where they were read.
        concurrency_seen: requests per second times (mean latency + client gap), which Little's law says
            is the concurrency; ``None`` in an open loop.
        breakdown: where the time went; ``None`` without server statistics.
        executed_batches: executions by the batch size that the server executed.
        executed_batch_mean: inferences per execution.
        server_requests: requests that the server counted in the same windows.
        ceiling_share: requests per second over what the load generator could do on this server with this
            workload; ``None`` where that was not measured.
        arrivals: what became of the schedule; ``None`` in a closed loop.
        course: how a load with a shape went over time; empty of any other.
        serial_correlation: of the batches where there is one long window; NaN with several passes.
        verdict: what to think of the point, the worst finding first.
        reasons: in words, the worst first; a valid point may have one too, such as a missed target
            or a trial that broke and was repeated.
    """

    point: Point
    backend: str
    trials: tuple[int, ...]
    passes: int
    window_s: float
    requests: int
    failures: Mapping[Outcome, int]
    throughput: Interval
    throughput_of_pass: Mapping[int, float]
    latency_mean_ms: Interval
    percentiles: Mapping[float, Percentile]
    goodput: Interval = NOTHING
    service_mean_ms: Interval = NOTHING
    service_percentiles: Mapping[float, Percentile] = field(default_factory=dict)
    failure_ms: Mapping[Outcome, float] = field(default_factory=dict)
    client_gap_ms: float | None = None
    client_cpu_cores: float | None = None
    server_cpu_cores: float | None = None
    other_cpu_cores: float | None = None
    server_rss_bytes: int | None = None
    metrics: WindowMetrics = UNKNOWN
    concurrency_seen: float | None = None
    breakdown: Breakdown | None = None
    executed_batches: Mapping[int, int] = field(default_factory=dict)
    executed_batch_mean: float | None = None
    server_requests: int | None = None
    ceiling_share: float | None = None
    arrivals: Arrivals | None = None
    course: tuple[Slice, ...] = ()
    serial_correlation: float = math.nan
    verdict: Verdict = Verdict.VALID
    reasons: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The point's name in every table."""
        return self.point.key

    @property
    def wrong_answers(self) -> int:
        """Requests that were answered, but wrongly."""
        return self.failures.get(Outcome.WRONG_ANSWER, 0)

    @property
    def errors(self) -> int:
        """Requests that failed; a wrong answer is counted apart."""
        return sum(self.failures.values()) - self.wrong_answers

    @property
    def valid(self) -> bool:
        """Whether there is nothing to be said against the point."""
        return self.verdict is Verdict.VALID

    @property
    def p99_ms(self) -> Interval | None:
        """The 99th percentile, or ``None`` where the samples do not support it."""
        return self.percentiles[0.99].interval_ms
