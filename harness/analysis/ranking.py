"""Which server configuration is best for a workload, and by how much.

The rule: within a workload (protocol and client batch size), a configuration counts with its best load
level: the highest throughput over the levels without errors whose upper p99 bound meets the SLO. Without
a bound on p99, its level is the *knee*: the one with the greatest power, throughput over mean latency
(Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer
communications", ICC 1979), beyond which more users buy latency rather than throughput.

Configurations are compared by the ratio of their throughputs, paired within the passes. Those that cannot be told
apart from the leader with 80 % confidence are tied with it; ties go to the fewest instances, then the least CPU.
What is slower, but by less than 3 % as far as 99 % confidence can tell, is a near tie. So where a configuration is
a little slower, one run may prefer the fastest and the next one the cheapest, but both say that it is a tie, or
nearly one: with a single bound, one of them would not. Only valid points can win.

The leader is known only once all are measured, and among equals it is the luckiest one. So a ratio's
interval allows for the choice: it is the wider one of the pair's own and of one by the noise of all, such that
ties and near ties hold the truly best one with 99 % confidence (multiple comparisons with the best: Hsu,
"Simultaneous confidence intervals for all distances from the 'best'", *Annals of Statistics* 9, 1981).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.advice import load_label, objective, reason
from harness.analysis.results import (
    NEAR_CONFIDENCE,
    NEAR_MARGIN,
    TIE_CONFIDENCE,
    RankedConfiguration,
    WorkloadResult,
)
from harness.statistics.intervals import Interval, noise_of, paired_ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.analysis.point_result import PointResult
    from harness.point import ServerConfiguration, Workload
    from harness.scenario import Slo
    from harness.statistics.intervals import Noise

__all__ = ["rank", "throughput_noise", "throughput_ratio"]


def rank(results: Sequence[PointResult], slo: Slo) -> tuple[WorkloadResult, ...]:
    """Rank the server configurations of each model and workload, in the order of the points."""
    groups: dict[tuple[str, Workload], list[PointResult]] = {}
    for result in results:
        groups.setdefault((result.point.configuration.model, result.point.workload), []).append(
            result
        )
    return tuple(
        _rank_workload(model, workload, group, slo) for (model, workload), group in groups.items()
    )


def throughput_noise(results: Sequence[PointResult]) -> Noise | None:
    """The noise that the throughputs of several points have in common."""
    passes = sorted(set().union(*(result.throughput_of_pass for result in results)))
    rates = [
        [result.throughput_of_pass.get(index, math.nan) for result in results] for index in passes
    ]
    return noise_of(np.array(rates).reshape(len(passes), len(results)))


def throughput_ratio(
    a: PointResult, b: PointResult, noise: Noise | None, confidence: float = 0.95
) -> Interval:
    """How many times ``b``'s throughput ``a``'s is, paired within the passes that both were measured in.

    Args:
        a: one point.
        b: the one that it is compared with.
        noise: of all points that the two were chosen from.
        confidence: of the interval.
    """
    passes = sorted(a.throughput_of_pass.keys() & b.throughput_of_pass.keys())
    return paired_ratio(
        [a.throughput_of_pass[index] for index in passes],
        [b.throughput_of_pass[index] for index in passes],
        confidence,
        noise,
    )


def _rank_workload(
    model: str, workload: Workload, results: Sequence[PointResult], slo: Slo
) -> WorkloadResult:
    groups: dict[ServerConfiguration, list[PointResult]] = {}
    for result in results:
        groups.setdefault(result.point.configuration, []).append(result)
    best = {key: _best_level(levels, slo) for key, levels in groups.items()}
    found = [result for result in best.values() if result is not None]
    noise = throughput_noise(found)
    ranked = [
        _compared(key, level, found, noise)
        if (level := best[key])
        else _unqualified(key, levels, slo)
        for key, levels in groups.items()
    ]
    ranking = tuple(sorted(ranked, key=_throughput_of, reverse=True))
    winner = min(
        (entry for entry in ranking if entry.tied), key=lambda entry: entry.cost, default=None
    )
    default = next((entry for entry in ranking if _is_default(entry.configuration)), None)
    gain = None
    if winner and winner.best and default and default.best:
        gain = throughput_ratio(winner.best, default.best, noise)
    is_tie = gain is not None and (winner == default or not _separated(gain))
    return WorkloadResult(
        model=model,
        workload=workload,
        objective=objective(slo),
        ranking=ranking,
        winner=winner,
        default=default,
        gain=gain,
        gain_is_tie=is_tie,
        reason=reason(ranking, winner, default, gain, is_tie=is_tie),
        doubtful=_doubtful(results, winner, slo),
    )


def _best_level(levels: Sequence[PointResult], slo: Slo) -> PointResult | None:
    """A configuration's best valid level under the rule; ``None`` where none qualifies."""
    eligible = [level for level in levels if level.valid and not _disqualified(level, slo)]
    merit: Callable[[PointResult], float] = _throughput if slo.p99_s is not None else _power
    return max(eligible, key=merit, default=None)


def _throughput(result: PointResult) -> float:
    return result.throughput.estimate


def _throughput_of(ranked: RankedConfiguration) -> float:
    return ranked.best.throughput.estimate if ranked.best else -1.0


def _power(result: PointResult) -> float:
    return result.throughput.estimate / result.latency_mean_ms.estimate


def _disqualified(result: PointResult, slo: Slo) -> str:
    """Why a level may not win, whatever its verdict; empty where it may."""
    if result.wrong_answers:
        return "it has wrong answers"
    if result.errors > slo.errors * result.requests:
        return "it has errors"
    if slo.p99_s is None:
        return ""
    interval = result.p99_ms
    if interval is None:
        return "its p99 is not known"
    if not interval.high <= slo.p99_s * 1e3:
        return f"its p99 of {interval.estimate:.3g} ms may be above {slo.p99_s * 1e3:g} ms"
    return ""


def _compared(
    configuration: ServerConfiguration,
    best: PointResult,
    contenders: Sequence[PointResult],
    noise: Noise | None,
) -> RankedConfiguration:
    """A configuration's place, by its best level beside that of the leader."""
    leader = max(contenders, key=_throughput)
    if best is leader:
        one = Interval(1.0, 1.0, 1.0)
        return RankedConfiguration(configuration, best, one, tied=True, near=True)
    ratio = throughput_ratio(best, leader, noise)
    sure, likely = (
        throughput_ratio(best, leader, noise, confidence)
        for confidence in (NEAR_CONFIDENCE, TIE_CONFIDENCE)
    )
    return RankedConfiguration(
        configuration,
        best,
        ratio,
        tied=not _slower(likely, than=1),
        near=not _slower(sure, than=1 - NEAR_MARGIN),
    )


def _unqualified(
    configuration: ServerConfiguration, levels: Sequence[PointResult], slo: Slo
) -> RankedConfiguration:
    """A configuration without a level that may win, and why."""
    why = "no level is valid"
    valid = [level for level in levels if level.valid]
    if valid:
        least = min(valid, key=lambda level: level.latency_mean_ms.estimate)
        why = f"no level meets the SLO: at {load_label(least)} {_disqualified(least, slo)}"
    return RankedConfiguration(configuration, None, None, tied=False, near=False, why_not=why)


def _slower(ratio: Interval, than: float) -> bool:
    """Whether a ratio is known to be below a bound; never without an interval."""
    return math.isfinite(ratio.low) and ratio.high < than


def _separated(ratio: Interval) -> bool:
    """Whether a ratio is known to differ from 1; never without an interval."""
    return math.isfinite(ratio.low) and math.isfinite(ratio.high) and not ratio.contains(1)


def _is_default(configuration: ServerConfiguration) -> bool:
    if configuration.as_found:
        return False  # nobody knows
    return configuration.instances == 1 and configuration.dynamic_batching is None


def _doubtful(
    results: Sequence[PointResult], winner: RankedConfiguration | None, slo: Slo
) -> tuple[str, ...]:
    """Doubtful points that would have beaten the winner: each configuration's best, the best first."""
    beaten = winner.best.throughput if winner and winner.best else Interval(0.0)
    most = beaten.high if math.isfinite(beaten.high) else beaten.estimate
    better = [
        result
        for result in sorted(results, key=_throughput, reverse=True)
        if not result.valid and not _disqualified(result, slo) and _throughput(result) > most
    ]
    best = {result.point.configuration: result for result in reversed(better)}
    return tuple(
        f"{result.point.configuration.label} at {load_label(result)} would be better with"
        f" {result.throughput.estimate:,.0f} inferences/s, but is doubtful: {result.reasons[0]}"
        for result in better
        if best[result.point.configuration] is result
    )
