"""Findings about the load generator: was it, and not the server, that was measured?"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from harness.analysis.bookkeeping import calibration_row
from harness.analysis.verdicts import Verdict, percent
from harness.point import ClosedLoad
from harness.records import LEAST_IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.trial import TrialMeasures
    from harness.analysis.verdicts import Finding
    from harness.records import Calibration

__all__ = ["beyond_proof", "concurrency_findings", "generator_findings", "near_ceiling"]

# One event loop runs on one core. Above this it has no room left, and what is measured is its own speed
# (Model Analyzer's 80 % counts all threads of perf_analyzer; a single loop is honest a little longer).
MOST_CLIENT_CORES = 0.9

# How late the generator's own 10 ms timer fires is how late it may have noticed an answer. It takes the
# answers of a batch one after the other: on two quiet cores shared with the server its p99 is 0.6 ms with
# 1 user, 0.7 ms with 8 and 2.4 ms with 32. A lag below this is its normal work …
LAG_ALWAYS_FINE_MS = 2.0
# … and above it, a lag matters once it is a good part of the latency that is published beside it. Quiet
# windows stay at a fifth; beside busy processes on its core it is a third with 8 users, two with 1.
MOST_LAG_OF_P99 = 0.3

# In a closed loop a user sends as soon as it has its answer, within hundredths of a millisecond.
MOST_GAP_OF_CYCLE = 0.2

# An open load that lacks more than this share of its requests is another load.
MOST_NOT_SENT = 0.02

# The ceiling was measured against a model that answers at once, on the same server and cores. A point that is this
# near to it says little of its model. That is no doubt about its figures: client, protocol and the server's own
# front share that ceiling, and the generator's own part is judged by its CPU.
MOST_OF_CEILING = 0.8


def generator_findings(result: PointResult, whole: Sequence[TrialMeasures]) -> Iterator[Finding]:
    """What speaks against the load generator.

    Args:
        result: the point, pooled.
        whole: its trials that have a whole window.
    """
    cores = result.client_cpu_cores
    if cores is not None and cores > MOST_CLIENT_CORES:
        said = f"the load generator used {cores:.2f} of the one core that it can use"
        yield Verdict.GENERATOR_BOUND, said
    yield from _lag(result, whole)
    yield from _users(result, whole)
    yield from _schedule(result)


def concurrency_findings(
    result: PointResult, whole: Sequence[TrialMeasures], calibration: Calibration | None
) -> Iterator[Finding]:
    """Whether the generator's users really are requests in flight, by its self-test before the run.

    A point with no more in flight than the server was seen to have in hand is not in doubt.
    """
    row, users = calibration_row(result, calibration), _in_flight(result, whole)
    if row is not None and not row.proved and row.in_flight < LEAST_IN_FLIGHT * users:
        said = (
            f"of {row.users} users, the server saw only {row.in_flight:.1f} requests in flight when the"
            " generator was tested before the run: the others waited in the generator"
        )
        yield Verdict.GENERATOR_BOUND, said


def beyond_proof(
    result: PointResult, whole: Sequence[TrialMeasures], calibration: Calibration | None
) -> Iterator[str]:
    """What an open loop had in flight beyond what the self-test proved; that alone is no doubt."""
    row, users = calibration_row(result, calibration), _in_flight(result, whole)
    if row is not None and row.proved and users > row.users:
        yield (
            f"{users} requests were in flight at once, and only {row.users} were proved to be before the run"
        )


def near_ceiling(result: PointResult) -> Iterator[str]:
    """Whether the point comes close to what was reached without a model; that alone is no doubt."""
    share = result.ceiling_share
    if share is not None and share > MOST_OF_CEILING:
        yield (
            f"it reached {percent(share)} of what the load generator reached against a model that answers at once,"
            " so client and protocol may be what was measured, and not the model"
        )


def _in_flight(result: PointResult, whole: Sequence[TrialMeasures]) -> int:
    """The most requests in flight at once, as the generator has it."""
    if isinstance(result.point.load, ClosedLoad):
        return result.point.load.concurrency
    return max((t.record.generator.max_in_flight for t in whole if t.record.generator), default=0)


def _lag(result: PointResult, whole: Sequence[TrialMeasures]) -> Iterator[Finding]:
    """The middle pass counts: one pass in which the machine paused says nothing about the others."""
    seen = [t.record.generator.loop_lag_p99_ms for t in whole if t.record.generator]
    lags = [lag_ms for lag_ms in seen if lag_ms is not None]
    if not lags:
        return
    p99 = result.percentiles[0.99].interval_ms
    lag_ms = median(lags)
    latency_ms = p99.estimate if p99 else result.latency_mean_ms.estimate
    if lag_ms > max(LAG_ALWAYS_FINE_MS, MOST_LAG_OF_P99 * latency_ms):
        said = (
            f"the load generator's event loop was {lag_ms:.1f} ms late (p99), beside a latency of"
            f" {latency_ms:.1f} ms"
        )
        yield Verdict.GENERATOR_BOUND, said


def _users(result: PointResult, whole: Sequence[TrialMeasures]) -> Iterator[Finding]:
    """Whether all users of a closed loop were at work all the time."""
    load = result.point.load
    if not isinstance(load, ClosedLoad):
        return
    quick = [trial for trial in whole if trial.slowest_ms < trial.window_s * 1e3]
    fewest = min((trial.users for trial in quick), default=load.concurrency)
    if fewest < load.concurrency:
        said = f"only {fewest} of {load.concurrency} users got an answer in some window"
        yield Verdict.GENERATOR_BOUND, said
    gap_ms, latency_ms = result.client_gap_ms or 0.0, result.service_mean_ms.estimate
    if gap_ms > MOST_GAP_OF_CYCLE * (gap_ms + latency_ms):
        said = f"users took {gap_ms:.2f} ms to send again, beside a latency of {latency_ms:.2f} ms"
        yield Verdict.GENERATOR_BOUND, said


def _schedule(result: PointResult) -> Iterator[Finding]:
    """An open load that was not sent as it was due. Where the cap held it back, that was asked for."""
    arrivals = result.arrivals
    if arrivals is None or arrivals.capped or not arrivals.due_rps:
        return
    p99 = result.percentiles[0.99].interval_ms
    latency_ms = p99.estimate if p99 else result.latency_mean_ms.estimate
    slip_ms = arrivals.slip_p99_ms
    if slip_ms > max(LAG_ALWAYS_FINE_MS, MOST_LAG_OF_P99 * latency_ms):
        said = f"requests were sent {slip_ms:.1f} ms late (p99), beside a latency of {latency_ms:.1f} ms"
        yield Verdict.GENERATOR_BOUND, said
    missing = 1 - arrivals.sent_rps / arrivals.due_rps
    if missing > MOST_NOT_SENT:
        said = f"{percent(missing)} of the requests that were due were not sent"
        yield Verdict.GENERATOR_BOUND, said
