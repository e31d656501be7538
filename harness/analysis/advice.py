"""The advice that a ranking gives, in words: the rule, the winner, why it wins a tie, and against the default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.analysis.results import TIE_MARGIN, WIN_CONFIDENCE
from harness.point import ClosedLoad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import RankedConfiguration
    from harness.scenario import Slo
    from harness.statistics.intervals import Interval

__all__ = ["load_label", "objective", "rates_held", "reason", "tie_break"]


def objective(slo: Slo) -> str:
    """The rule, such as ``highest throughput with p99 at most 50 ms and without errors``."""
    if slo.p99_s is None:
        return "throughput at the knee (the greatest throughput over latency) without errors"
    return f"highest throughput with p99 at most {slo.p99_s * 1e3:g} ms and without errors"


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
    p99 = f", p99 {best.p99_ms.estimate:.3g} ms" if best.p99_ms else ""
    said = (
        f"{winner.configuration.label} is best: {_rate(best.throughput)} inferences/s"
        f" at {load_label(best)}{p99}"
    )
    tied = [ranked for ranked in ranking if ranked.tied]
    if len(tied) > 1:
        more = len(tied) - 1
        others = "another configuration" if more == 1 else f"{more} other configurations"
        said += f"; tied with {others}, but {tie_break(winner, tied)}"
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
    if all(winner.cost <= each.cost for each in tied):
        return _cheapest(winner, tied, of="these")
    rivals = [each for each in tied if each.may_win]
    sure = f"{100 * WIN_CONFIDENCE:g} % confidence"
    if len(rivals) == 1:
        return f"what costs less is slower with {sure}, though perhaps by less than {100 * TIE_MARGIN:g} %"
    return _cheapest(winner, rivals, of=f"those that are not slower with {sure}")


def _cheapest(winner: RankedConfiguration, tied: Sequence[RankedConfiguration], of: str) -> str:
    instances = [each.configuration.instances for each in tied if each is not winner]
    as_few = instances.count(winner.configuration.instances)
    few = "it has the fewest instances" if of == "these" else f"of {of} it has the fewest instances"
    if not as_few:
        return few
    cpu = winner.best.server_cpu_cores if winner.best else None
    last = "is the fastest" if cpu is None else "uses the least CPU"
    if as_few == len(instances):
        return f"of {of} it {last}"
    return f"{few}, and of those that have as few it {last}"


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


def _rate(interval: Interval) -> str:
    said = f"{interval.estimate:,.0f}"
    if math.isfinite(interval.low):
        said += f" ({interval.low:,.0f} to {interval.high:,.0f})"
    return said
