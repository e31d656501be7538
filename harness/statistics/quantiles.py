"""Percentiles of a few passes, with intervals that admit the variation between the passes.

The interval is that of sectioning (Asmussen & Glynn, *Stochastic Simulation*, 2007, section III.5a;
Nakayama, "Confidence intervals for quantiles using sectioning when applying variance-reduction
techniques", *ACM TOMACS* 24, 2014): centred on the percentile of all samples, spread by Student's t over
the passes' own percentiles; on the logarithmic scale, since latencies are positive and skewed. Where a
pass happens to be like any other, that can be narrower than chance within the samples allows, so it is
never narrower than the distribution-free interval between two order statistics (David & Nagaraja,
*Order Statistics*, 3rd ed. 2003, section 7.1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr

from harness.statistics.intervals import Interval, t_factor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["order_statistic_interval", "quantile", "quantile_interval"]


def quantile(values: Array, q: float) -> float:
    """The smallest value with at least the share ``q`` of the values at or below it; NaN of none."""
    if not len(values):
        return math.nan
    rank = max(1, math.ceil(q * len(values) - 1e-9))
    return float(np.partition(values, rank - 1)[rank - 1])


def order_statistic_interval(values: Array, q: float, confidence: float = 0.95) -> Interval:
    """The interval of quantile ``q`` of independent samples, whatever their distribution.

    A bound is infinite where there are too few samples beyond the quantile for one.

    Args:
        values: shape (samples,).
        q: the quantile, between 0 and 1.
        confidence: of the interval.
    """
    count = len(values)
    if not count:
        return Interval(math.nan)
    low = _binomial_quantile((1 - confidence) / 2, count, q)
    high = _binomial_quantile((1 + confidence) / 2, count, q) + 1
    ranks = [rank - 1 for rank in (low, high) if 1 <= rank <= count]
    ordered = np.partition(values, ranks) if ranks else values
    return Interval(
        quantile(values, q),
        float(ordered[low - 1]) if low >= 1 else -math.inf,
        float(ordered[high - 1]) if high <= count else math.inf,
    )


def _binomial_quantile(share: float, count: int, q: float) -> int:
    """The smallest k with P(Binomial(count, q) ≤ k) ≥ share."""
    below, k = -1, count
    while k - below > 1:
        middle = (below + k) // 2
        if bdtr(middle, count, q) >= share:
            k = middle
        else:
            below = middle
    return k


def quantile_interval(passes: Sequence[Array], q: float, confidence: float = 0.95) -> Interval:
    """Quantile ``q`` of the samples of all passes, with the variation between the passes.

    Args:
        passes: the samples of each pass, positive; passes without samples count for nothing.
        q: the quantile, between 0 and 1.
        confidence: of the interval.

    Returns:
        The pooled quantile and its interval; no interval with fewer than two passes.
    """
    filled = [np.asarray(values, dtype=np.float64) for values in passes if len(values)]
    if not filled:
        return Interval(math.nan)
    pooled = np.concatenate(filled)
    within = order_statistic_interval(pooled, q, confidence)
    if len(filled) < 2:
        return Interval(within.estimate)
    logs = np.log([quantile(values, q) for values in filled])
    half = t_factor(len(filled) - 1, confidence) * logs.std(ddof=1) / math.sqrt(len(filled))
    return Interval(
        within.estimate,
        min(within.low, within.estimate * math.exp(-half)),
        max(within.high, within.estimate * math.exp(min(half, 700.0))),
    )
