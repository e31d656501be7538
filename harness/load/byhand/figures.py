"""The figures of a level that was sent by hand, for Locust's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from harness.load.outcomes import LONGEST_REASON
from harness.records import Outcome
from harness.statistics.counts import quantile_is_supported, samples_needed
from harness.statistics.quantiles import quantile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from harness.load.level import Level

__all__ = ["tell"]

log = logging.getLogger(__name__)


def tell(level: Level, samples: npt.NDArray[np.void], window: tuple[int, int]) -> None:
    """Write a level's figures to Locust's log: Locust's own table is rounded."""
    ended = samples[(samples["done_ns"] >= window[0]) & (samples["done_ns"] < window[1])]
    right = ended[ended["outcome"] == Outcome.OK]
    name = f"{level.workload.label}, {level.load.key}"
    for reason, times in level.reasons.items():
        log.warning("%s: %d times %s", name, times, reason[:LONGEST_REASON])
    if len(right) and window[1] > window[0]:
        took_ms = (right["done_ns"] - right["scheduled_ns"]) / 1e6
        p50, p99 = (_percentile(took_ms, q) for q in (0.5, 0.99))
        log.info(
            "%s: %.0f inferences per second, p50 %s, p99 %s, of one window and so without intervals; %d of %d requests failed",
            name,
            right["batch"].sum() / (window[1] - window[0]) * 1e9,
            p50,
            p99,
            len(ended) - len(right),
            len(ended),
        )


def _percentile(took_ms: npt.NDArray[np.float64], q: float) -> str:
    if not quantile_is_supported(q, len(took_ms)):
        return f"needs {samples_needed(q)} right answers"
    return f"{quantile(took_ms, q):.2f} ms"
