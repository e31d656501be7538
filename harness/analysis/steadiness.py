"""Findings about steadiness: did the windows measure one state, and long enough?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.analysis.bookkeeping import users_at_work
from harness.analysis.sections import LEAST_IN_BATCH
from harness.analysis.verdicts import Verdict, percent
from harness.point import ClosedLoad
from harness.statistics.intervals import MIN_BATCHES, paired_ratio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.trial import TrialMeasures
    from harness.analysis.verdicts import Finding

__all__ = ["FEWEST_PASSES", "sample_findings", "steadiness_findings"]

# A 95 % interval wider than this either way tells little more than the order of magnitude. Windows of
# 1 s vary by 9 % on a noisy two-core machine, which makes ±12 % of five passes.
MOST_HALF_WIDTH = 0.25

# The second half of the windows against the first, over the passes: a server that has warmed up and does
# not degrade gives the same in both.
MOST_CHANGE_IN_WINDOW = 0.15

# A pause with requests in flight and not one answer. Scheduling on a busy machine makes pauses of tens of
# milliseconds; slow models pause for as long as a request takes.
PAUSE_ALWAYS_FINE_MS = 100.0
MOST_PAUSE_OF_MEDIAN = 10.0
# The oldest of several hundred requests in flight has waited about as long as the slowest of thousands took.
MOST_WAIT_OF_SLOWEST = 2.0

# A server that answers less than this share below what is due falls behind for good, unless chance made
# the arrivals come late in the window (four standard deviations of a Poisson count).
MOST_BEHIND = 0.05
MOST_BY_CHANCE = 4.0

# Student's t of two passes is 12.7: such an interval is no help to anybody.
FEWEST_PASSES = 3

# The batches of one long window hang together above this: by chance they do so once in twenty times
# (1.645 over the root of twenty batches).
MOST_CORRELATION = 0.37


def steadiness_findings(result: PointResult, whole: Sequence[TrialMeasures]) -> Iterator[Finding]:
    """What speaks against one steady state.

    Args:
        result: the point, pooled.
        whole: its trials that have a whole window.
    """
    slow = max(whole, key=lambda trial: trial.slowest_ms - trial.window_s * 1e3)
    if slow.slowest_ms > slow.window_s * 1e3:
        said = (
            f"a request took {slow.slowest_ms / 1e3:.2f} s, the window {slow.window_s:.2f} s:"
            " make the window longer"
        )
        yield Verdict.WINDOW_TOO_SHORT, said
    width = result.throughput.half_width_relative
    if math.isfinite(width) and width > MOST_HALF_WIDTH and result.passes >= FEWEST_PASSES:
        said = f"throughput varies from pass to pass: ±{percent(width)} over {result.passes} passes"
        yield Verdict.UNSTEADY, said
    if result.point.load.kind != "shaped":  # whose throughput is meant to change
        yield from _change(whole)
    yield from _pause(result, whole)
    yield from _books(result)
    yield from _overload(result)


def _change(whole: Sequence[TrialMeasures]) -> Iterator[Finding]:
    early, late = zip(*(trial.halves for trial in whole), strict=True)
    change = paired_ratio(late, early)
    known = math.isfinite(change.low) and not change.contains(1)
    if known and abs(change.estimate - 1) > MOST_CHANGE_IN_WINDOW:
        said = (
            f"throughput changed within the windows: {percent(change.estimate - 1, sign='+')} from the"
            " first half to the second"
        )
        yield Verdict.UNSTEADY, said


def _pause(result: PointResult, whole: Sequence[TrialMeasures]) -> Iterator[Finding]:
    median = result.service_percentiles[0.5].interval_ms
    limit_ms = max(PAUSE_ALWAYS_FINE_MS, MOST_PAUSE_OF_MEDIAN * median.estimate if median else 0.0)
    paused = max(whole, key=lambda trial: trial.longest_silence_ms)
    if paused.longest_silence_ms <= limit_ms:
        yield from _cut_off(whole, limit_ms)
        return
    said = (
        f"nothing was answered for {paused.longest_silence_ms:.0f} ms in pass"
        f" {paused.record.pass_index + 1}"
    )
    if isinstance(result.point.load, ClosedLoad):
        said += ": a closed loop sent nothing meanwhile, so its percentiles hide it"
    yield Verdict.UNSTEADY, said


def _cut_off(whole: Sequence[TrialMeasures], limit_ms: float) -> Iterator[Finding]:
    """A request that waited at a window's end for much longer than any that was answered took."""
    waited = max(whole, key=lambda trial: trial.waiting_ms)
    slowest_ms = max(trial.slowest_ms for trial in whole)
    if waited.waiting_ms > max(limit_ms, MOST_WAIT_OF_SLOWEST * slowest_ms):
        said = (
            f"a request had waited {waited.waiting_ms:.0f} ms when the window of pass"
            f" {waited.record.pass_index + 1} ended, and the slowest answer took {slowest_ms:.0f} ms: its"
            " latency is in no percentile"
        )
        yield Verdict.UNSTEADY, said


def _books(result: PointResult) -> Iterator[Finding]:
    """All users were at work (the generator's findings say otherwise), so the edges cut something long."""
    found, load = users_at_work(result), result.point.load
    if found is None or found[1] or not isinstance(load, ClosedLoad):
        return
    said = (
        f"{load.concurrency} users add up to {found[0]:.3g} by Little's law: pauses were cut by the windows'"
        " edges"
    )
    yield Verdict.UNSTEADY, said


def _overload(result: PointResult) -> Iterator[Finding]:
    arrivals, load = result.arrivals, result.point.load
    if arrivals is None or load.kind == "closed":
        return
    # What is due in the whole window of a shape is known to one request, but for Poisson arrivals.
    by_chance = load.kind == "open" or load.arrivals == "poisson"
    chance = MOST_BY_CHANCE / math.sqrt(arrivals.offered_rps * result.window_s) if by_chance else 0
    behind = 1 - arrivals.achieved_rps / arrivals.offered_rps
    if behind > max(MOST_BEHIND, chance):
        said = (
            f"overloaded: {arrivals.achieved_rps:,.0f} of {arrivals.offered_rps:,.0f} requests/s were"
            " answered, so waiting grew for as long as it was measured"
        )
        yield Verdict.UNSTEADY, said


def sample_findings(result: PointResult) -> Iterator[Finding]:
    """What speaks against the number of samples and passes."""
    p99 = result.percentiles[0.99]
    if p99.interval_ms is None:
        said = f"{p99.samples:,} right answers, p99 needs {p99.needs:,}"
        yield Verdict.TOO_FEW_SAMPLES, said
    if result.passes == 1 and math.isfinite(result.throughput.half_width_relative):
        if result.serial_correlation > MOST_CORRELATION:
            said = (
                "the only window is too short for an interval: its parts hang together (correlation"
                f" {result.serial_correlation:.2f} from one to the next)"
            )
            yield Verdict.TOO_FEW_SAMPLES, said
    elif result.passes < FEWEST_PASSES:
        passes = "pass" if result.passes == 1 else "passes"
        said = f"{result.passes} {passes}, an interval needs {FEWEST_PASSES}"
        if result.passes == 1 and result.point.load.kind != "shaped":
            said += f", or one window with {MIN_BATCHES * LEAST_IN_BATCH:,} right answers"
        yield Verdict.TOO_FEW_SAMPLES, said
