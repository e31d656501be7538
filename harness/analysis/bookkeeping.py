"""Checks that the numbers of a point fit each other, the server's, and what the instrument can do.

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
    from harness.analysis.point_result import PointResult
    from harness.analysis.trial import TrialMeasures
    from harness.records import Calibration, CalibrationRow

__all__ = [
    "SLOW_EDGE_MS",
    "calibration_row",
    "ceiling_share",
    "count_disagreement",
    "users_at_work",
]

MOST_OFF_LITTLE = 0.03
MOST_OFF_COUNT = 0.02
# Half of a statistics call: when the server counted is known no better. One that took longer than twice this is
# a part of the window worth naming, and no excuse.
SLOW_EDGE_MS = 5.0


def users_at_work(result: PointResult) -> tuple[float, bool] | None:
    """How many users there were by Little's law, and whether that is as many as there should have been.

    The window cuts each user's first and last cycle. Where users go in step, that leaves an error of up to
    a cycle a window, so a cycle over the root of the passes is allowed if that is more than 3 %.
    ``None`` in an open loop.
    """
    load, seen = result.point.load, result.concurrency_seen
    if not isinstance(load, ClosedLoad) or seen is None:
        return None
    cycle_s = seen / (result.requests / result.window_s)
    cut = cycle_s / result.window_s * math.sqrt(result.passes)
    return seen, abs(seen / load.concurrency - 1) <= max(MOST_OFF_LITTLE, cut)


def count_disagreement(trial: TrialMeasures) -> bool:
    """Whether client and server count differently by more than the window's edges explain.

    At both edges requests are in flight, and the server counted at some time within its statistics call.
    """
    if trial.server_requests is None:
        return False
    load, health = trial.record.point.load, trial.record.generator
    if isinstance(load, ClosedLoad):
        in_flight = load.concurrency
    else:
        in_flight = health.max_in_flight if health else load.max_in_flight
    statistics, window_s = trial.record.statistics, trial.record.window_s
    edge_s = min(statistics.edge_error_ms, SLOW_EDGE_MS) / 1e3 if statistics else 0.0
    at_edges = 2 * (in_flight + edge_s * trial.server_requests / window_s) if window_s else 0.0
    allowed = max(MOST_OFF_COUNT * trial.server_requests, at_edges)
    return abs(trial.requests - trial.server_requests) > allowed


def ceiling_share(result: PointResult, calibration: Calibration | None) -> float | None:
    """The point's requests per second over the most that the load generator reached on this server.

    The ceiling was measured against a model that answers at once, with the same tensors, protocol and
    client batch size; ``None`` where it was not.
    """
    row = calibration_row(result, calibration)
    if row is None or not result.window_s or not row.ceiling_rps:
        return None
    return result.requests / result.window_s / row.ceiling_rps


def calibration_row(result: PointResult, calibration: Calibration | None) -> CalibrationRow | None:
    """What the generator can do with the point's tensors, protocol and batch size; ``None`` if not known."""
    workload, model = result.point.workload, result.point.configuration.model
    for row in calibration.rows if calibration else ():
        same = (row.protocol, row.batch_size) == (workload.protocol, workload.batch_size)
        if same and (not row.models or model in row.models):
            return row
    return None
