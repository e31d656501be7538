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
    "Noise",
    "interval_of_passes",
    "noise_of",
    "paired_ratio",
    "share_interval",
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


def t_factor(degrees: int, confidence: float = 0.95) -> float:
    """Student's t for a two-sided interval with ``degrees`` degrees of freedom."""
    return float(stdtrit(degrees, 0.5 + confidence / 2))


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


@dataclass(frozen=True)
class Noise:
    """How far the logarithms of several rates vary from pass to pass, beyond what a pass does to all of them.

    Attributes:
        deviation: standard deviation of one logarithm, by all of the rates together.
        degrees: of freedom that it has.
        rates: how many they are.
    """

    deviation: float
    degrees: int
    rates: int

    def half_width(self, passes: int, confidence: float) -> float:
        """Of the logarithm of a ratio of two of the rates.

        One of them may be the best of all, which is known only afterwards; so the ratios of any one of them
        to all others hold together with ``confidence`` (Bonferroni).
        """
        each = 1 - (1 - confidence) / (self.rates - 1)
        return t_factor(self.degrees, each) * self.deviation * math.sqrt(2 / passes)


def noise_of(rates: npt.NDArray[np.float64]) -> Noise | None:
    """The noise that several rates have in common: the residual of a randomised block design.

    Source: Box, Hunter, Hunter, *Statistics for Experimenters* (2nd ed., 2005), chapter 4; passes are blocks.

    Args:
        rates: shape (passes, rates); passes in which one is missing (NaN) or not positive are left out.

    Returns:
        ``None`` with fewer than two whole passes or two rates.
    """
    whole = rates[(rates > 0).all(axis=1) & np.isfinite(rates).all(axis=1)]
    passes, count = whole.shape
    if passes < 2 or count < 2:
        return None
    degrees = (passes - 1) * (count - 1)
    logs = np.log(whole)
    rest = logs - logs.mean(axis=0) - logs.mean(axis=1, keepdims=True) + logs.mean()
    return Noise(math.sqrt(float((rest**2).sum()) / degrees), degrees, count)


def paired_ratio(
    a: Floats, b: Floats, confidence: float = 0.95, noise: Noise | None = None
) -> Interval:
    """How many times ``b`` is ``a``, each pair measured in the same pass.

    Pairing takes out what a pass does to both. The ratio is the geometric mean of the passes' ratios,
    its interval Student's t on their logarithms, so that a/b and b/a tell the same story.

    Args:
        a: one positive value a pass, shape (passes,).
        b: the same of what it is compared with; passes in which either is missing (NaN) or not positive
            are left out.
        confidence: of the interval.
        noise: of all the rates, where the two were chosen from several after they were measured: the interval
            is the wider one of the pair's own and of that by the noise of all.

    Raises:
        ValueError: ``a`` and ``b`` have different lengths.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} and {len(second)} passes cannot be paired")
    both = (first > 0) & (second > 0) & np.isfinite(first) & np.isfinite(second)
    logs = interval_of_passes(np.log(first[both] / second[both]), confidence)
    half = (logs.high - logs.low) / 2
    if noise is not None and math.isfinite(half):
        half = max(half, noise.half_width(int(both.sum()), confidence))
    low, high = logs.estimate - half, logs.estimate + half
    return Interval(math.exp(logs.estimate), math.exp(low), math.exp(high))


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
