"""Checks that the numbers of a point fit each other and the server's.

In a closed loop every user is always either waiting for an answer or between an answer and its next
send, so the throughput times the mean of both is the number of users: Little's law, N = X·(R + Z) (Little,
*Operations Research* 9, 1961; Denning & Buzen, "The operational analysis of queueing network models",
*ACM Computing Surveys* 10, 1978). It holds whatever happens on the way, so it proves the bookkeeping
and that all users were at work, and nothing about the server.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.point import ClosedLoad

if TYPE_CHECKING:
    from harness.analysis.results import PointResult
    from harness.analysis.trial import TrialMeasures

__all__ = ["count_disagreement", "idle_users"]

MOST_OFF_LITTLE = 0.03
MOST_OFF_COUNT = 0.02


def idle_users(result: PointResult) -> str | None:
    """What is wrong where Little's law gives another number of users than there were; ``None`` if fine.

    The window cuts each user's first and last cycle. Where users go in step, that leaves an error of up to
    a cycle a window, so a cycle over the root of the passes is allowed if that is more than 3 %.
    """
    load, seen = result.point.load, result.concurrency_seen
    if not isinstance(load, ClosedLoad) or seen is None:
        return None
    cycle_s = seen / (result.requests / result.window_s)
    cut = cycle_s / result.window_s * math.sqrt(result.passes)
    if abs(seen / load.concurrency - 1) <= max(MOST_OFF_LITTLE, cut):
        return None
    return f"{seen:.1f} of {load.concurrency} users were at work, by Little's law"


def count_disagreement(trial: TrialMeasures) -> bool:
    """Whether client and server count differently by more than what is in flight at the window's edges."""
    if trial.server_requests is None:
        return False
    load, health = trial.record.point.load, trial.record.generator
    if isinstance(load, ClosedLoad):
        in_flight = load.concurrency
    else:
        in_flight = health.max_in_flight if health else load.max_in_flight
    allowed = max(MOST_OFF_COUNT * trial.server_requests, 2 * in_flight)
    return abs(trial.requests - trial.server_requests) > allowed
