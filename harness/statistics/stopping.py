"""When a point has been measured often enough: the rule for passes until a target is met.

Stopping as soon as an interval happens to be narrow selects the narrow ones: a naive rule covered 82 to
88 % where it claimed 95 (Chow & Robbins 1965 hold only as the target goes to zero; Law, *Simulation
Modeling and Analysis*, section 9.4). So the target must be met after each of the last two passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.statistics.intervals import interval_of_passes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from harness.statistics.intervals import Interval

    PassT = TypeVar("PassT")

__all__ = ["IN_A_ROW", "on_target"]

IN_A_ROW = 2


def on_target(
    passes: Sequence[PassT],
    half_width: float,
    interval: Callable[[Sequence[PassT]], Interval] = interval_of_passes,  # type: ignore[assignment]
) -> bool:
    """Whether the interval was within the target after each of the last two passes.

    Args:
        passes: what each pass gave, in order: a value for :func:`interval_of_passes`, or the samples for
            an interval of a percentile.
        half_width: the target, relative to the estimate, such as 0.05.
        interval: the interval of some of the passes.
    """
    counts = range(len(passes) - IN_A_ROW + 1, len(passes) + 1)
    return all(
        count >= 2 and interval(passes[:count]).half_width_relative <= half_width
        for count in counts
    )
