"""How many samples a percentile needs before it may be published.

The rule is that of MLPerf LoadGen's early stopping (``loadgen/early_stopping.cc`` and its README): with
``n`` samples of which at most ``over`` lie above a bound, one may say with 99 % confidence that the
percentile lies below that bound, if so few would otherwise be seen with a chance of at most 1 %.
"""

from __future__ import annotations

from functools import cache

from scipy.special import bdtr

__all__ = ["quantile_is_supported", "samples_needed"]

CONFIDENCE = 0.99


@cache
def samples_needed(q: float, over: int = 0, confidence: float = CONFIDENCE) -> int:
    """The fewest samples that support quantile ``q`` with ``over`` samples beyond the bound.

    The smallest n with P(Binomial(n, 1 − q) ≤ over) ≤ 1 − confidence: 459, 662 and 838 for p99 with 0, 1
    and 2 over.

    Args:
        q: the quantile, between 0 and 1, such as 0.99.
        over: samples above the bound.
        confidence: of the claim.

    Raises:
        ValueError: ``q`` is not between 0 and 1, or ``over`` is negative.
    """
    if not 0 < q < 1 or over < 0:
        raise ValueError(f"no quantile {q} with {over} samples over it")
    low, high = over, over + 1
    while bdtr(over, high, 1 - q) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if bdtr(over, middle, 1 - q) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def quantile_is_supported(q: float, samples: int) -> bool:
    """Whether quantile ``q`` of that many samples may be published at all.

    That is so from the smallest number on with which LoadGen's rule can bound it: 7 for p50, 44 for p90,
    90 for p95, 459 for p99, 4,603 for p99.9.
    """
    return samples >= samples_needed(q)
