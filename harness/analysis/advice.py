"""The advice that a ranking gives, in words: the rule, the winner, why it wins a tie, and against the default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.analysis.results import NEAR_MARGIN, TIE_CONFIDENCE
from harness.point import ClosedLoad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import RankedConfiguration
    from harness.scenario import Slo
    from harness.statistics.intervals import Interval

__all__ = ["load_label", "nearly", "objective", "rates_held", "reason", "tie_break"]


def objective(slo: Slo) -> str:
    """The rule, such as ``highest throughput with p99 at most 50 ms and without errors``."""
    errors = f"at most {100 * slo.errors:g} % errors" if slo.errors else "without errors"
    if slo.p99_s is None:
        with_ = "with " if slo.errors else ""
        return f"throughput at the knee (the greatest throughput over latency) {with_}{errors}"
    return f"highest throughput with p99 at most {slo.p99_s * 1e3:g} ms and {errors}"


def reason(
    ranking: Sequence[RankedConfiguration],
    winner: RankedConfiguration | None,
    default: RankedConfiguration | None,
    gain: Interval | None,
    *,
    is_tie: bool,
) -> str:
    """Which configuration is best, what broke a tie, and how it stands against the default."""
    if winner is None or winner.best is None:
        return (
            f"no configuration qualifies ({ranking[0].why_not})" if ranking else "nothing measured"
        )
    best = winner.best
    p99 = f", p99 {_with_bounds(best.p99_ms)} ms" if best.p99_ms else ""
    said = (
        f"{winner.configuration.label} is best: {_rate(best.throughput)} inferences/s"
        f" at {load_label(best)}{p99}"
    )
    tied = [ranked for ranked in ranking if ranked.tied]
    near = [ranked for ranked in ranking if ranked.near and not ranked.tied]
    if len(tied) > 1:
        said += f"; tied with {_others(len(tied) - 1)}, but {tie_break(winner, tied)}"
    if near:
        said += f"; a near tie with {_others(len(near))}: {nearly(len(near))}"
    return f"{said}; {_against_default(winner, default, gain, is_tie=is_tie)}"


def _against_default(
    winner: RankedConfiguration,
    default: RankedConfiguration | None,
    gain: Interval | None,
    *,
    is_tie: bool,
) -> str:
    if default is None:
        return "the default (one instance, no dynamic batching) was not measured"
    if winner == default:
        return "it is the default"
    if gain is None:
        return f"the default does not qualify ({default.why_not})"
    held = rates_held(winner.best, default.best)
    if held and not is_tie:
        return f"it holds {held[0]:g} requests/s, the default {held[1]:g} of the rates that were offered"
    ratio = f"{gain.estimate:.2f} times the default"
    if math.isfinite(gain.low):
        ratio += f" ({gain.low:.2f} to {gain.high:.2f})"
    return f"a tie with the default: {ratio}" if is_tie else ratio


def tie_break(winner: RankedConfiguration, tied: Sequence[RankedConfiguration]) -> str:
    """Why the winner, of all that are tied with it, in words that follow its name."""
    instances = [each.configuration.instances for each in tied if each is not winner]
    as_few = instances.count(winner.configuration.instances)
    if not as_few:
        return "it has the fewest instances"
    cpu = winner.best.server_cpu_cores if winner.best else None
    last = "is the fastest" if cpu is None else "uses the least CPU"
    if as_few == len(instances):
        return f"of these it {last}"
    return f"it has the fewest instances, and of those that have as few it {last}"


def nearly(count: int) -> str:
    """What a near tie is, of one configuration or several."""
    return (
        f"{'it is' if count == 1 else 'they are'} slower with {100 * TIE_CONFIDENCE:g} % confidence, though perhaps"
        f" by less than {100 * NEAR_MARGIN:g} %"
    )


def _others(count: int) -> str:
    return "another configuration" if count == 1 else f"{count} other configurations"


def rates_held(best: PointResult | None, default: PointResult | None) -> tuple[float, float] | None:
    """The offered rates of two open loads, whose throughputs are just these; ``None`` of other loads."""
    loads = [result.point.load for result in (best, default) if result]
    rates = [load.rate for load in loads if load.kind == "open"]
    return (rates[0], rates[1]) if len(rates) == 2 else None


def load_label(result: PointResult) -> str:
    """A load level for people, such as ``concurrency 16`` or ``200 requests/s``."""
    load = result.point.load
    if isinstance(load, ClosedLoad):
        return f"concurrency {load.concurrency}"
    if load.kind == "shaped":
        return load.key
    return f"{load.rate:g} requests/s"


def _with_bounds(interval: Interval) -> str:
    said = f"{interval.estimate:.3g}"
    if math.isfinite(interval.low) and math.isfinite(interval.high):
        said += f" ({interval.low:.3g} to {interval.high:.3g})"
    return said


def _rate(interval: Interval) -> str:
    said = f"{interval.estimate:,.0f}"
    if math.isfinite(interval.low):
        said += f" ({interval.low:,.0f} to {interval.high:,.0f})"
    return said
