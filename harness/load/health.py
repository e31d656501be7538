"""How the load generator itself fares: readings taken in its process, figures made from them elsewhere."""

from __future__ import annotations

import array
from typing import TYPE_CHECKING

import numpy as np

from harness.records import GeneratorHealth

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["HEARTBEAT_NS", "Readings", "health", "most_in_flight"]

HEARTBEAT_NS = 10_000_000


class Readings:
    """What a timer that fires every 10 ms has read: when it fired, how late, and the CPU time used."""

    def __init__(self) -> None:
        self._values = array.array("q")

    def add(self, time_ns: int, lag_ns: int, cpu_ns: int) -> None:
        """Append one reading."""
        self._values.extend((time_ns, lag_ns, cpu_ns))

    def to_bytes(self) -> bytes:
        """The readings as an ``int64`` array of shape (readings, 3)."""
        return self._values.tobytes()


def most_in_flight(
    sent_ns: npt.NDArray[np.int64],
    done_ns: npt.NDArray[np.int64],
    flying_ns: npt.NDArray[np.int64],
    window: tuple[int, int],
) -> int:
    """The most requests that were in flight at once within a window.

    Args:
        sent_ns: of the requests that are done, shape (requests,).
        done_ns: of the same.
        flying_ns: when those were sent that are not done yet.
        window: its edges, CLOCK_MONOTONIC in ns.
    """
    start, end = window
    overlap = (sent_ns < end) & (done_ns > start)
    begun = np.concatenate([sent_ns[overlap], flying_ns[flying_ns < end]])
    begun = np.sort(np.maximum(begun, start))
    # At the same moment an end comes before a begin.
    ended = np.searchsorted(np.sort(done_ns[overlap]), begun, side="right")
    return int((np.arange(1, len(begun) + 1) - ended).max(initial=0))


def health(
    readings: npt.NDArray[np.int64],
    window: tuple[int, int],
    *,
    reconnects_ns: npt.NDArray[np.int64],
    unsent: int,
    in_flight: int,
    flying_ns: npt.NDArray[np.int64],
) -> GeneratorHealth:
    """Make the figures of a window from readings that reach beyond it.

    Args:
        readings: shape (readings, 3): when the timer fired, how late it was, and the CPU time used, in ns.
        window: its edges, CLOCK_MONOTONIC in ns.
        reconnects_ns: when connections were opened again.
        unsent: requests that were due in the window and never sent.
        in_flight: the most requests in flight at once within it.
        flying_ns: when those were sent that are not done yet.
    """
    start, end = window
    waiting_ns = flying_ns[flying_ns < end]
    times, lags, cpu = readings[:, 0], readings[:, 1], readings[:, 2]
    # A reading belongs to the window if its wait touched it: a stall that began there counts.
    inside = lags[(times >= start) & (times - lags <= end)] / 1e6
    # Within a window that lies between no two readings the CPU time is not known, rather than 0.
    read = len(times) > 0 and times.min() < end and times.max() > start
    used_ns = np.diff(np.interp([start, end], times, cpu))[0] if read else None
    return GeneratorHealth(
        loop_lag_p99_ms=float(np.percentile(inside, 99)) if len(inside) else None,
        loop_lag_max_ms=float(inside.max()) if len(inside) else None,
        cpu_s=None if used_ns is None else float(used_ns) / 1e9,
        window_s=(end - start) / 1e9,
        reconnects=int(((reconnects_ns >= start) & (reconnects_ns <= end)).sum()),
        unsent=unsent,
        max_in_flight=in_flight,
        unanswered=int((waiting_ns >= start).sum()),
        waiting_ms=float(end - waiting_ns.min()) / 1e6 if len(waiting_ns) else 0.0,
    )
