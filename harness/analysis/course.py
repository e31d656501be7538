"""How a load with a shape went over time: what was offered, sent and answered, and how long that took."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from harness.statistics.counts import quantile_is_supported, samples_needed
from harness.statistics.intervals import Interval
from harness.statistics.quantiles import quantile_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from harness.analysis.trial import TrialMeasures
    from harness.point import ShapedLoad

    Floats = npt.NDArray[np.float64]

__all__ = ["Slice", "course_of"]

MOST_SLICES = 60
FEWEST_SLICES = 16
# Offered rates are averaged over this many moments of a slice, so that an edge within it is not missed.
MOMENTS = 32


@dataclass(frozen=True)
class Slice:
    """One slice of a shape's time, over all passes.

    Attributes:
        start_s, end_s: from the beginning of the shape.
        offered_rps: requests due per second by the shape; of a replay, of the file.
        sent_rps: requests sent per second that got a right answer in the window.
        achieved_rps: right answers per second.
        p50_ms, p99_ms: response times of the requests that were due in it, with the variation between the passes;
            NaN with too few of them, and without bounds where there is one pass.
        slowest_ms: the slowest of them; NaN without any.
    """

    start_s: float
    end_s: float
    offered_rps: float
    sent_rps: float
    achieved_rps: float
    p50_ms: Interval
    p99_ms: Interval
    slowest_ms: float


def course_of(trials: Sequence[TrialMeasures], load: ShapedLoad) -> tuple[Slice, ...]:
    """Cut the time of a shape into slices; the passes are put on top of each other.

    Args:
        trials: those with a whole window.
        load: what was sent in them.
    """
    trials = [trial for trial in trials if trial.record.shape_start_ns is not None]
    if not trials:
        return ()
    done_s = np.concatenate([trial.done_s - _lead_s(trial) for trial in trials])
    of_pass = np.repeat(np.arange(len(trials)), [len(trial.done_s) for trial in trials])
    response_ms = np.concatenate([trial.latency_ms for trial in trials])
    sent_s = done_s - np.concatenate([trial.service_ms for trial in trials]) / 1e3
    due_s = done_s - response_ms / 1e3
    last_s = max(load.duration_s, float(done_s.max(initial=0.0)))
    slices = round(np.clip(len(done_s) / samples_needed(0.99), FEWEST_SLICES, MOST_SLICES))
    edges = _edges(load, load.duration_s / slices)
    if last_s > load.duration_s:  # what was answered after the shape's end
        edges = np.append(edges, max(last_s, load.duration_s + load.duration_s / slices))
    sent, achieved = (np.histogram(moments, edges)[0] for moments in (sent_s, done_s))
    due = np.histogram(due_s, edges)[0]
    found = []
    for place, (start, end) in enumerate(pairwise(edges)):
        here = (due_s >= start) & (due_s < end)
        inside = response_ms[here]
        passes = [inside[of_pass[here] == number] for number in range(len(trials))]
        total_s = (end - start) * len(trials)
        found.append(
            Slice(
                start_s=float(start),
                end_s=float(end),
                offered_rps=_offered(load, start, end)
                if load.stretches
                else float(due[place] / total_s),
                sent_rps=float(sent[place] / total_s),
                achieved_rps=float(achieved[place] / total_s),
                p50_ms=_quantile(passes, 0.5),
                p99_ms=_quantile(passes, 0.99),
                slowest_ms=float(inside.max()) if len(inside) else math.nan,
            )
        )
    return tuple(found)


def _edges(load: ShapedLoad, width_s: float) -> Floats:
    """Edges of slices about so wide; where the rate jumps there is one, unless it jumps all the time."""
    durations = [stretch.duration_s for stretch in load.stretches] or [load.duration_s]
    rounds = math.ceil(load.duration_s / sum(durations)) if load.repeat else 1
    if rounds * len(durations) > MOST_SLICES:
        return np.linspace(0, load.duration_s, round(load.duration_s / width_s) + 1)
    edges = [0.0]
    for duration_s in durations * rounds:
        parts = max(1, round(duration_s / width_s))
        edges += [edges[-1] + duration_s * (part + 1) / parts for part in range(parts)]
    inner = [edge for edge in edges if edge < load.duration_s * (1 - 1e-9)]
    return np.array([*inner, load.duration_s])


def _lead_s(trial: TrialMeasures) -> float:
    """From the beginning of the window to that of the shape, in seconds."""
    shape_ns, window_ns = trial.record.shape_start_ns, trial.record.window_start_ns
    return ((shape_ns or 0) - (window_ns or 0)) / 1e9


def _offered(load: ShapedLoad, start_s: float, end_s: float) -> float:
    moments = start_s + (np.arange(MOMENTS) + 0.5) * (end_s - start_s) / MOMENTS
    rates = [load.rate_at(float(m)) if m < load.duration_s else 0.0 for m in moments]
    return float(np.mean(rates))


def _quantile(passes: Sequence[Floats], q: float) -> Interval:
    supported = quantile_is_supported(q, sum(map(len, passes)))
    return quantile_interval(passes, q) if supported else Interval(math.nan)
