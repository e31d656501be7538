"""Where a warm-up ends: the truncation point of a series that starts out of balance.

MSER-5 (White, "An effective truncation heuristic for bias reduction in simulation output", *Simulation*
69, 1997; White, Cobb & Spratt, WSC 2000) leaves out as many of the first observations as makes the
standard error of the mean of the rest smallest, over means of five. Hoad, Robinson & Davies ("Automating
warm-up length estimation", *JORS* 61, 2010) found it the best of 44 methods, and give the rule that a
truncation point in the second half of the series means that the series is too short to tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["Truncation", "mser5"]

BATCH = 5
# Below this the statistic is a matter of chance.
MIN_BATCHES = 10
# The last means are always close together by chance, and would win.
IGNORED_TAIL = 5


@dataclass(frozen=True)
class Truncation:
    """How much of a series to leave out.

    Attributes:
        index: the first observation that is kept.
        settled: whether the series is long enough to trust that.
        reason: how that was found, in words.
    """

    index: int
    settled: bool
    reason: str


def mser5(series: npt.NDArray[np.float64] | Sequence[float]) -> Truncation:
    """The truncation point of ``series`` by MSER-5.

    Args:
        series: observations in the order of time, shape (samples,).
    """
    values = np.asarray(series, dtype=np.float64)
    count = len(values) // BATCH
    if count < MIN_BATCHES:
        needed = MIN_BATCHES * BATCH
        return Truncation(
            0, settled=False, reason=f"{len(values)} requests, {needed} needed to tell"
        )
    means = values[: count * BATCH].reshape(count, BATCH).mean(axis=1)
    means = means - means.mean()
    # Sums over each possible rest, from its first batch to the last.
    left = np.arange(count, 0, -1)
    sums, squares = np.cumsum(means[::-1])[::-1], np.cumsum(means[::-1] ** 2)[::-1]
    error = np.maximum(squares - sums**2 / left, 0.0) / left.astype(np.float64) ** 2
    best = int(np.argmin(error[: count - IGNORED_TAIL]))
    index = best * BATCH
    said = f"MSER-5 leaves out the first {index} of {len(values)} requests"
    if best > count // 2:
        return Truncation(index, settled=False, reason=f"{said}, more than half: not settled")
    return Truncation(index, settled=True, reason=said)
