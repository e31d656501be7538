"""What an analysis finds: a run, its workloads with their rankings, and its points.

Everything here is frozen and plain; :func:`harness.analysis.analyse` fills it in. Times are in
milliseconds, throughput in inferences per second, CPU in cores (1.0 is one core kept busy).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.point_result import PointResult
    from harness.analysis.resources import Resources
    from harness.analysis.verdicts import RunVerdict
    from harness.point import ServerConfiguration, Workload
    from harness.records import RunRecord, TrialRecord
    from harness.scenario import Measure, Slo
    from harness.statistics.intervals import Interval

# What is slower than the leader with the first confidence is not tied with it, and as long as the second does not
# make it slower by more than the margin, it is a near tie: why two bounds, see docs/statistics.md.
TIE_CONFIDENCE = 0.80
NEAR_CONFIDENCE, NEAR_MARGIN = 0.99, 0.03

__all__ = [
    "NEAR_CONFIDENCE",
    "NEAR_MARGIN",
    "TIE_CONFIDENCE",
    "Analysis",
    "Drift",
    "RankedConfiguration",
    "WorkloadResult",
]


@dataclass(frozen=True)
class RankedConfiguration:
    """One server configuration under one workload, at its best load level.

    Attributes:
        configuration: the server configuration.
        best: its best point under the rule, among the valid ones; ``None`` where no level qualifies.
        behind: its throughput over the leader's, paired within the passes; ``None`` without ``best``.
        tied: whether it cannot be told apart from the leader with 80 % confidence; the leader is tied with itself.
        near: whether it is tied, or a near tie: 99 % confidence does not rule out that it is within 3 % of the leader.
        why_not: why no level qualifies, in words; empty where one does.
    """

    configuration: ServerConfiguration
    best: PointResult | None
    behind: Interval | None
    tied: bool
    near: bool
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
        winner: the recommendation: of those that are tied the one with the fewest instances, then the least
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
        """The leader and those that cannot be told apart from it."""
        return tuple(ranked for ranked in self.ranking if ranked.tied)

    @property
    def near_ties(self) -> tuple[RankedConfiguration, ...]:
        """Those that are slower than the leader, but perhaps within the margin."""
        return tuple(ranked for ranked in self.ranking if ranked.near and not ranked.tied)

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
        """The largest over the smallest, less one; 0 of fewer than two, infinite where one gave nothing."""
        if len(self.throughput) < 2:
            return 0.0
        if min(self.throughput) <= 0:
            return math.inf
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
