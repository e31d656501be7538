"""Confidence intervals for measurements that are correlated within a window and drift between windows.

A window's requests are not independent, and a machine is not the same from one minute to the next: a
window of 2 s varies more from pass to pass than anything within it admits. So the independent unit is
the *pass*, and intervals come from the variation between passes, by Student's t.

Sources: Law, *Simulation Modeling and Analysis* (5th ed., 2015), sections 9.5.1 (independent
replications) and 9.5.3 (batch means); Schmeiser, "Batch size effects in the analysis of simulation
output", *Operations Research* 30 (1982), for 20 to 30 batches; Fieller (1954) and Fleming & Wallace,
"How not to lie with statistics", *CACM* 29 (1986), for ratios on the logarithmic scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri, stdtrit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64] | Sequence[float]

__all__ = [
    "MIN_BATCHES",
    "Interval",
    "batch_means",
    "interval_of_passes",
    "paired_ratio",
    "share_interval",
    "together",
]

MIN_BATCHES = 20


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; the bounds are NaN where there is none.

    A bound may be infinite: then the data say nothing about that side.
    """

    estimate: float
    low: float = math.nan
    high: float = math.nan

    @property
    def half_width_relative(self) -> float:
        """Half of the width over the estimate, as in "±8 %"; infinite where there is no interval."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or self.estimate == 0:
            return math.inf
        return (self.high - self.low) / 2 / abs(self.estimate)

    def contains(self, value: float) -> bool:
        """Whether ``value`` lies within the bounds; never without an interval."""
        return self.low <= value <= self.high

    def overlaps(self, other: Interval) -> bool:
        """Whether the two intervals share a value; never without an interval."""
        return self.low <= other.high and other.low <= self.high

    def scaled(self, factor: float) -> Interval:
        """The same interval in another unit; ``factor`` is positive."""
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)


def t_factor(degrees: int, confidence: float = 0.95) -> float:
    """Student's t for a two-sided interval with ``degrees`` degrees of freedom."""
    return float(stdtrit(degrees, 0.5 + confidence / 2))


def together(intervals: int, confidence: float = 0.95) -> float:
    """The confidence that each of some intervals needs, so that all of them hold with ``confidence``.

    Bonferroni's bound: it is right whatever hangs together with what.
    """
    return 1 - (1 - confidence) / intervals


def interval_of_passes(values: Floats, confidence: float = 0.95) -> Interval:
    """The mean of one value a pass, with Student's t over the passes.

    Args:
        values: one value a pass, shape (passes,); NaN stands for a pass without a value.
        confidence: of the interval.

    Returns:
        The mean and its interval; no interval with fewer than two passes, NaN with none.
    """
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    if not len(array):
        return Interval(math.nan)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean)
    half = t_factor(len(array) - 1, confidence) * float(array.std(ddof=1)) / math.sqrt(len(array))
    return Interval(mean, mean - half, mean + half)


def batch_means(series: Floats, batches: int = MIN_BATCHES, confidence: float = 0.95) -> Interval:
    """The mean of one long, correlated series, from the means of equal batches of it.

    What is left over after the last whole batch counts in no batch. Each batch must be much longer than
    the correlation in the series for the interval to be right.

    Args:
        series: values in the order of time, shape (samples,).
        batches: how many; at least :data:`MIN_BATCHES`.
        confidence: of the interval.

    Raises:
        ValueError: fewer batches than that.
    """
    if batches < MIN_BATCHES:
        raise ValueError(
            f"{batches} batches are too few for an interval: use {MIN_BATCHES} or more"
        )
    array = np.asarray(series, dtype=np.float64)
    length = len(array) // batches
    if length == 0:
        return Interval(float(array.mean()) if len(array) else math.nan)
    means = array[: length * batches].reshape(batches, length).mean(axis=1)
    return interval_of_passes(means, confidence)


def paired_ratio(a: Floats, b: Floats, confidence: float = 0.95) -> Interval:
    """How many times ``b`` is ``a``, each pair measured in the same pass.

    Pairing takes out what a pass does to both. The ratio is the geometric mean of the passes' ratios,
    its interval Student's t on their logarithms, so that a/b and b/a tell the same story.

    Args:
        a: one positive value a pass, shape (passes,).
        b: the same of what it is compared with; passes in which either is missing (NaN) or not positive
            are left out.
        confidence: of the interval.

    Raises:
        ValueError: ``a`` and ``b`` have different lengths.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} and {len(second)} passes cannot be paired")
    both = (first > 0) & (second > 0) & np.isfinite(first) & np.isfinite(second)
    logs = interval_of_passes(np.log(first[both] / second[both]), confidence)
    return Interval(math.exp(logs.estimate), math.exp(logs.low), math.exp(logs.high))


def share_interval(count: int, of: int, confidence: float = 0.95) -> Interval:
    """The share ``count / of`` of independent cases, with Wilson's score interval.

    It keeps within 0 and 1 and holds for shares near them, where the normal interval fails. Source:
    Wilson, "Probable inference, the law of succession, and statistical inference", *JASA* 22 (1927).

    Raises:
        ValueError: there are no cases, or more of them counted than there are.
    """
    if not 0 <= count <= of or of < 1:
        raise ValueError(f"{count} of {of} is no share")
    share, z = count / of, float(ndtri(0.5 + confidence / 2))
    middle = share + z**2 / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    low, high = ((middle + side * half) / (1 + z**2 / of) for side in (-1, 1))
    return Interval(share, min(max(0.0, low), share), max(min(1.0, high), share))
