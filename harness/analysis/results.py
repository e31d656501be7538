"""What an analysis finds: a run, its workloads with their rankings, and its points.

Everything here is frozen and plain; :func:`harness.analysis.analyse` fills it in. Times are in
milliseconds, throughput in inferences per second, CPU in cores (1.0 is one core kept busy).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.analysis.metrics import UNKNOWN, WindowMetrics
from harness.analysis.verdicts import RunVerdict, Verdict
from harness.records import Outcome
from harness.statistics.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from harness.analysis.course import Slice
    from harness.analysis.resources import Resources
    from harness.point import Point, ServerConfiguration, Workload
    from harness.records import RunRecord, TrialRecord
    from harness.scenario import Measure, Slo

NOTHING = Interval(math.nan)
TIE_CONFIDENCE = 0.99  # with which what is not tied is slower than the leader

__all__ = [
    "TIE_CONFIDENCE",
    "Analysis",
    "Arrivals",
    "Breakdown",
    "Drift",
    "Percentile",
    "PointResult",
    "RankedConfiguration",
    "WorkloadResult",
]


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

    Attributes:
        client_and_network_ms: mean latency as the client saw it less the server's mean request time.
        queue_ms: waiting in Triton's queue for an instance or for a batch.
        compute_input_ms, compute_infer_ms, compute_output_ms: as Triton's statistics extension has them.
        server_other_ms: the rest of the server's request time.
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
        due_rps: requests that were due per second. Those in flight when the samples were collected are not
            in it, nor in ``sent_rps``: that makes a difference only where the server is overloaded.
        sent_rps: requests that were sent per second.
        achieved_rps: requests that ended per second, whatever the answer.
        unsent: requests that were due within the windows and never sent.
        late: requests sent more than 1 ms after they were due.
        slip_p99_ms: how late requests were sent (p99 of a pass; the median over the passes).
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
        reasons: in words, the worst first; a valid point may have one too, such as a missed target.
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


@dataclass(frozen=True)
class RankedConfiguration:
    """One server configuration under one workload, at its best load level.

    Attributes:
        configuration: the server configuration.
        best: its best point under the rule, among the valid ones; ``None`` where no level qualifies.
        behind: its throughput over the leader's, paired within the passes; ``None`` without ``best``.
        tied: whether it cannot be told apart from the leader (which is tied with itself) with 99 % confidence.
        may_win: whether it is tied, and cannot be told apart with 95 % confidence either.
        why_not: why no level qualifies, in words; empty where one does.
    """

    configuration: ServerConfiguration
    best: PointResult | None
    behind: Interval | None
    tied: bool
    may_win: bool
    why_not: str = ""

    @property
    def cost(self) -> tuple[float, float, float]:
        """What a tie goes by, the least first: instances, CPU where it is known, slowness."""
        cpu = self.best.server_cpu_cores if self.best else None
        rate = self.best.throughput.estimate if self.best else 0.0
        return (self.configuration.instances, math.inf if cpu is None else cpu, -rate)


@dataclass(frozen=True)
class WorkloadResult:
    """Which server configuration is best for one workload of one model.

    Attributes:
        model, workload: what clients ask for.
        objective: the rule in words, such as ``highest throughput with p99 at most 50 ms``.
        ranking: every configuration, best first; those without a qualifying level last.
        winner: the recommendation: of those that may win the one with the fewest instances, then the least
            CPU; ``None`` where nothing qualifies.
        default: what it is compared with: one instance without dynamic batching, at its own best level;
            ``None`` where that was not measured or does not qualify.
        gain: the winner's throughput over the default's, paired within the passes; ``None`` without both.
        gain_is_tie: whether the winner cannot be told apart from the default (or is the default).
        reason: the answer and its reason, in words.
        doubtful: doubtful points with a higher throughput than the winner's, in words.
    """

    model: str
    workload: Workload
    objective: str
    ranking: tuple[RankedConfiguration, ...]
    winner: RankedConfiguration | None
    default: RankedConfiguration | None
    gain: Interval | None
    gain_is_tie: bool
    reason: str
    doubtful: tuple[str, ...] = ()

    @property
    def tie_set(self) -> tuple[RankedConfiguration, ...]:
        """The configurations that cannot be told apart from the leader."""
        return tuple(ranked for ranked in self.ranking if ranked.tied)

    @property
    def label(self) -> str:
        """A name for people: ``cnn, HTTP, client batch 8``."""
        return f"{self.model}, {self.workload.label}"


@dataclass(frozen=True)
class Drift:
    """How one point's throughput changed while the run went on.

    Attributes:
        point: the sentinel point's name.
        trials: the trials it was measured in, in the order of time.
        throughput: inferences per second of each.
    """

    point: str
    trials: tuple[int, ...]
    throughput: tuple[float, ...]

    @property
    def spread(self) -> float:
        """The largest over the smallest, less one; 0 of fewer than two."""
        if len(self.throughput) < 2 or min(self.throughput) <= 0:
            return 0.0
        return max(self.throughput) / min(self.throughput) - 1


@dataclass(frozen=True)
class Analysis:
    """A whole run, analysed.

    Attributes:
        record: how the run was made.
        slo, measure: from the run's scenario.
        trial_records: every trial, in the order of measurement.
        results: every point, in the order of the sweep.
        points: one row a point; :data:`harness.analysis.tables.COLUMNS` first, in that order. A cell is
            missing (NaN) where a column does not apply.
        trials: one row a trial, sentinels included.
        workloads: the rankings.
        drift: what the sentinel trials show; ``None`` without any.
        verdict: of the run, with reasons in words.
        resources: CPU and memory over the whole run; ``None`` without telemetry.
    """

    record: RunRecord
    slo: Slo
    measure: Measure
    trial_records: tuple[TrialRecord, ...]
    results: tuple[PointResult, ...]
    points: pd.DataFrame = field(repr=False, compare=False)
    trials: pd.DataFrame = field(repr=False, compare=False)
    workloads: tuple[WorkloadResult, ...]
    drift: Drift | None
    verdict: RunVerdict
    resources: Resources | None = field(default=None, repr=False, compare=False)

    def headlines(self) -> tuple[str, ...]:
        """The answer, a line a workload, and the run's verdict where it is not valid."""
        lines = tuple(f"{workload.label}: {workload.reason}" for workload in self.workloads)
        return lines if self.verdict.valid else (*lines, self.verdict.text)

    @property
    def meets_slo(self) -> bool:
        """Whether every workload has a configuration that meets the SLO."""
        return bool(self.workloads) and all(result.winner for result in self.workloads)

    @property
    def exit_code(self) -> int:
        """4 where answers were wrong or no point is valid, otherwise 0."""
        return self.verdict.exit_code
