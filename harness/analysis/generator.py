"""Findings about the load generator: was it, and not the server, that was measured?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis.bookkeeping import users_at_work
from harness.analysis.verdicts import Verdict, percent
from harness.point import ClosedLoad

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.analysis.results import PointResult
    from harness.analysis.trial import TrialMeasures
    from harness.analysis.verdicts import Finding

__all__ = ["generator_findings"]

# One event loop runs on one core. Above this it has no room left, and what is measured is its own speed
# (Model Analyzer's 80 % counts all threads of perf_analyzer; a single loop is honest a little longer).
MOST_CLIENT_CORES = 0.9

# How late the generator's own 10 ms timer fires is how late it may have noticed an answer. The generator
# takes the answers of a batch one after the other, and shares the machine with the server, so a lag below
# this is its normal work at high concurrency …
LAG_ALWAYS_FINE_MS = 5.0
# … and above it, a lag matters once it is a good part of the latency that is published beside it.
MOST_LAG_OF_LATENCY = 0.5

# An open load that lacks more than this share of its requests is another load.
MOST_NOT_SENT = 0.02


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
    yield from _users(result)
    yield from _schedule(result)


def _lag(result: PointResult, whole: Sequence[TrialMeasures]) -> Iterator[Finding]:
    """The middle pass counts: one pass in which the machine paused says nothing about the others."""
    lags = sorted(t.record.generator.loop_lag_p99_ms for t in whole if t.record.generator)
    if not lags:
        return
    p99 = result.percentiles[0.99].interval_ms
    lag_ms = lags[len(lags) // 2]
    latency_ms = p99.estimate if p99 else result.latency_mean_ms.estimate
    if lag_ms > max(LAG_ALWAYS_FINE_MS, MOST_LAG_OF_LATENCY * latency_ms):
        said = (
            f"the load generator's event loop was {lag_ms:.1f} ms late (p99),"
            f" beside a latency of {latency_ms:.1f} ms"
        )
        yield Verdict.GENERATOR_BOUND, said


def _users(result: PointResult) -> Iterator[Finding]:
    """Fewer users than asked for were idle; more come from pauses that the window's edges cut."""
    found, load = users_at_work(result), result.point.load
    if found is None or found[1] or not isinstance(load, ClosedLoad):
        return
    at_work = found[0]
    if at_work < load.concurrency:
        said = f"{at_work:.1f} of {load.concurrency} users were at work, by Little's law"
        yield Verdict.GENERATOR_BOUND, said
    else:
        said = (
            f"{load.concurrency} users add up to {at_work:.1f} by Little's law: pauses were cut by the"
            " windows' edges"
        )
        yield Verdict.UNSTEADY, said


def _schedule(result: PointResult) -> Iterator[Finding]:
    """An open load that was not sent as it was due. Where the cap held it back, that was asked for."""
    arrivals = result.arrivals
    if arrivals is None or arrivals.capped or not arrivals.due_rps:
        return
    slip_ms, latency_ms = arrivals.slip_p99_ms, result.latency_mean_ms.estimate
    if slip_ms > max(LAG_ALWAYS_FINE_MS, MOST_LAG_OF_LATENCY * latency_ms):
        said = f"requests were sent {slip_ms:.1f} ms late (p99), beside a latency of {latency_ms:.1f} ms"
        yield Verdict.GENERATOR_BOUND, said
    missing = 1 - arrivals.sent_rps / arrivals.due_rps
    if missing > MOST_NOT_SENT:
        said = f"{percent(missing)} of the requests that were due were not sent"
        yield Verdict.GENERATOR_BOUND, said
