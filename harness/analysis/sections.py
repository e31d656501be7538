"""What intervals are made from: the passes of a point, or the twentieths of its one long window.

With several passes each is a section of its own. One window alone is cut into twenty batches of equal
time (batch means: Law, *Simulation Modeling and Analysis*, section 9.5.3; Schmeiser 1982). That is as good
as passes only where the batches are much longer than the correlation within the window, which their own
serial correlation shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.statistics.intervals import MIN_BATCHES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from harness.analysis.trial import TrialMeasures

    Floats = npt.NDArray[np.float64]

__all__ = ["LEAST_IN_BATCH", "Section", "sections_of", "serial_correlation"]

# With fewer requests in a batch intervals are too narrow: of M/M/1 queues at utilisation 0.7, those of 20 batches of
# 100 held the mean in 86 of 100 runs and the p99 in 71, those of 1,000 in 92 to 95 (tests/unit/test_statistics_coverage.py).
LEAST_IN_BATCH = 1000


@dataclass(frozen=True)
class Section:
    """One independent part of a point's measurement.

    Attributes:
        duration_s: how long it is.
        latency_ms: response times of the right answers in it, shape (right answers,).
        service_ms: their service times.
    """

    duration_s: float
    latency_ms: Floats
    service_ms: Floats

    def throughput(self, batch_size: int) -> float:
        """Inferences per second with a right answer."""
        return len(self.latency_ms) * batch_size / self.duration_s

    def goodput(self, batch_size: int, bound_ms: float) -> float:
        """Inferences per second with a right answer within ``bound_ms``."""
        good = np.count_nonzero(self.latency_ms <= bound_ms)
        return float(good * batch_size / self.duration_s)


def sections_of(trials: Sequence[TrialMeasures]) -> list[Section]:
    """The sections of a point's whole trials: its passes, or the batches of its only one."""
    shaped = any(trial.record.point.load.kind == "shaped" for trial in trials)
    if len(trials) != 1 or shaped:  # the parts of a shape are not alike
        return [Section(trial.window_s, trial.latency_ms, trial.service_ms) for trial in trials]
    (trial,) = trials
    whole = Section(trial.window_s, trial.latency_ms, trial.service_ms)
    edges = np.linspace(0, trial.window_s, MIN_BATCHES + 1)
    cuts = np.searchsorted(trial.done_s, edges[1:-1])
    batches = [
        Section(trial.window_s / MIN_BATCHES, latency_ms, service_ms)
        for latency_ms, service_ms in zip(
            np.split(trial.latency_ms, cuts), np.split(trial.service_ms, cuts), strict=True
        )
    ]
    enough = all(len(batch.latency_ms) >= LEAST_IN_BATCH for batch in batches)
    return batches if enough else [whole]


def serial_correlation(sections: Sequence[Section]) -> float:
    """The correlation of one section's mean latency with the next one's; NaN with fewer than three."""
    means = np.array([section.latency_ms.mean() for section in sections if len(section.latency_ms)])
    if len(means) < 3 or means.std() == 0:
        return math.nan
    off = means - means.mean()
    return float((off[1:] * off[:-1]).sum() / (off**2).sum())
