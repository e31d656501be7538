"""A model's statistics at a moment, and what happened between two of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError, UsageError
from harness.records import StatisticsWindow

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COUNTS", "Snapshot", "difference", "quickest", "require_growth", "take"]

QUICK_NS = 10_000_000  # one that took longer is repeated
ATTEMPTS = 3
MOST_BATCH_SIZES = 10_000
MOST_COUNTED = 1 << 62  # a sum that is larger is no count, and no time
DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
CACHE = ("cache_hit", "cache_miss")
COUNTS = (
    "inference_count",
    "execution_count",
    *(f"{name}_{unit}" for name in DURATIONS for unit in ("count", "ns")),
    *(f"{name}_count" for name in CACHE),
)


@dataclass(frozen=True)
class Snapshot:
    """Cumulative statistics of one model, and when they were taken (CLOCK_MONOTONIC, ns).

    ``counts`` has the fields of :class:`harness.records.StatisticsWindow` by name, summed over versions;
    ``executed_batches`` maps an executed batch size to its executions so far.
    """

    before_ns: int
    after_ns: int
    counts: dict[str, int]
    executed_batches: dict[int, int]

    @property
    def edge_ns(self) -> int:
        """The moment that it stands for: the middle of the call."""
        return (self.before_ns + self.after_ns) // 2


def quickest(
    ask: Callable[[], Any], message: Callable[[Any], Any] = lambda answer: answer
) -> Snapshot:
    """Take a snapshot: the quickest of up to three calls, since a long one leaves its edge uncertain.

    Args:
        ask: asks the server for its statistics; only this is timed.
        message: makes the protobuf message of an answer; called for the one that is kept.

    Raises:
        EnvironmentFailedError: the answer makes no sense; and what the two raise.
    """
    calls = []
    for _ in range(ATTEMPTS):
        before_ns = time.monotonic_ns()
        answer = ask()
        after_ns = time.monotonic_ns()
        calls.append((before_ns, after_ns, answer))
        if after_ns - before_ns <= QUICK_NS:
            break
    before_ns, after_ns, answer = min(calls, key=lambda call: call[1] - call[0])
    return take(before_ns, after_ns, message(answer))


def take(before_ns: int, after_ns: int, answer: Any) -> Snapshot:  # noqa: ANN401 - a protobuf message
    """Make a snapshot of a server's answer, summed over the model's versions.

    Raises:
        EnvironmentFailedError: it makes no sense.
    """
    counts = dict.fromkeys(COUNTS, 0)
    executed: dict[int, int] = {}
    for version in answer.model_stats:
        counts["inference_count"] += version.inference_count
        counts["execution_count"] += version.execution_count
        for name in DURATIONS:
            duration = getattr(version.inference_stats, name)
            counts[f"{name}_count"] += duration.count
            counts[f"{name}_ns"] += duration.ns
        for name in CACHE:
            counts[f"{name}_count"] += getattr(version.inference_stats, name).count
        for batch in version.batch_stats:
            size = int(batch.batch_size)
            executed[size] = executed.get(size, 0) + batch.compute_infer.count
    return _plausible(Snapshot(before_ns, after_ns, counts, executed))


def _plausible(snapshot: Snapshot) -> Snapshot:
    """The snapshot, unless a server says what cannot be.

    Raises:
        EnvironmentFailedError: counts beyond all bounds.
    """
    executed = snapshot.executed_batches
    largest = max([*snapshot.counts.values(), *executed.keys(), *executed.values()])
    if largest > MOST_COUNTED or len(executed) > MOST_BATCH_SIZES:
        raise EnvironmentFailedError(
            "the server's statistics make no sense: they are beyond all bounds"
        )
    return snapshot


def difference(first: Snapshot, last: Snapshot) -> StatisticsWindow:
    """The statistics of the window between two snapshots; its edges are the middles of the calls.

    Raises:
        EnvironmentFailedError: a count has gone down: the model was loaded anew in between, or the server
            restarted.
        UsageError: the snapshots are not in the order of time.
    """
    if last.edge_ns < first.edge_ns:
        raise UsageError("the last snapshot was taken before the first")
    counts, executed = require_growth(first, last)
    longest_ns = max(last.after_ns - last.before_ns, first.after_ns - first.before_ns)
    return StatisticsWindow(
        start_ns=first.edge_ns,
        end_ns=last.edge_ns,
        edge_error_ms=longest_ns / 2e6,
        executed_batches={size: count for size, count in executed.items() if count},
        **counts,
    )


def require_growth(first: Snapshot, last: Snapshot) -> tuple[dict[str, int], dict[int, int]]:
    """What was added to the counts and to the executions by batch size from one snapshot to a later one.

    Raises:
        EnvironmentFailedError: a count has gone down: the model was loaded anew in between, or the server
            restarted.
    """
    counts = {name: last.counts[name] - first.counts[name] for name in COUNTS}
    executed = {
        size: last.executed_batches.get(size, 0) - first.executed_batches.get(size, 0)
        for size in sorted(first.executed_batches.keys() | last.executed_batches.keys())
    }
    gone_down = [name for name, value in counts.items() if value < 0]
    gone_down += [f"executions of {size}" for size, value in executed.items() if value < 0]
    if gone_down:
        raise EnvironmentFailedError(
            f"the server's statistics went down ({', '.join(gone_down[:3])}): the model was loaded anew,"
            " or the server restarted"
        )
    return counts, executed
