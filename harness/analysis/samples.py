"""The requests of one window, cut out of a trial's samples.

A request belongs to the window in which it ended: ``window_start_ns <= done_ns < window_end_ns``. What
the server finished in the window and what the client saw finished in it then differ by at most the
requests in flight at the two edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.records import SAMPLE_COLUMNS, Outcome

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]
    Floats = npt.NDArray[np.float64]

__all__ = ["WindowSamples", "cut"]


@dataclass(frozen=True)
class WindowSamples:
    """The requests that ended within one window, in the order in which they ended.

    Attributes:
        scheduled_ns, sent_ns, done_ns, batch, outcome: as in ``records.SAMPLE_DTYPE``, shape (requests,).
        user: the simulated user of each, shape (requests,).
        gap_ms: from the same user's last answer to this request's send; NaN where there is none, shape
            (requests,).
        start_ns, end_ns: the window.
        due, sent: how many requests were due and how many sent within the window, whenever they ended.
        longest_silence_ms: the longest time with requests in flight and not one answer.
        waiting_ms: how long the oldest request without an answer had been in flight at the window's end.
    """

    scheduled_ns: npt.NDArray[np.int64]
    sent_ns: npt.NDArray[np.int64]
    done_ns: npt.NDArray[np.int64]
    batch: npt.NDArray[np.int32]
    outcome: npt.NDArray[np.int8]
    user: npt.NDArray[np.int32]
    gap_ms: Floats
    start_ns: int
    end_ns: int
    due: int
    sent: int
    longest_silence_ms: float
    waiting_ms: float

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which requests got a right answer, shape (requests,)."""
        return np.equal(self.outcome, Outcome.OK)

    @property
    def service_ms(self) -> Floats:
        """From the send to the answer, whatever that was, shape (requests,)."""
        return (self.done_ns - self.sent_ns) / 1e6

    @property
    def response_ms(self) -> Floats:
        """From the scheduled send to the answer, whatever that was, shape (requests,)."""
        return (self.done_ns - self.scheduled_ns) / 1e6


def cut(
    table: pa.Table, start_ns: int, end_ns: int, *, closed: bool, waiting_ms: float = 0.0
) -> WindowSamples:
    """The part of a trial's samples that ended within a window.

    Args:
        table: columns ``archive.SAMPLE_COLUMNS``, warm-up and drain included.
        start_ns: where the window begins.
        end_ns: where it ends.
        closed: whether the load is a closed loop, in which a request is always in flight.
        waiting_ms: how long the oldest request that is not in ``table`` had been in flight at the end.
    """
    columns = {name: table.column(name).to_numpy() for name in SAMPLE_COLUMNS if name != "compared"}
    order = np.argsort(columns["done_ns"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    first, last = np.searchsorted(columns["done_ns"], [start_ns, end_ns], side="left")
    gaps = _gaps_ms(columns["user"], columns["sent_ns"], columns["done_ns"])
    inside = slice(int(first), int(last))
    # Since when a request without an answer has been in flight. In a closed loop there always is one.
    since_ns = end_ns - round(waiting_ms * 1e6) if waiting_ms else start_ns if closed else None
    return WindowSamples(
        scheduled_ns=columns["scheduled_ns"][inside],
        sent_ns=columns["sent_ns"][inside],
        done_ns=columns["done_ns"][inside],
        batch=columns["batch"][inside],
        outcome=columns["outcome"][inside],
        user=columns["user"][inside],
        gap_ms=gaps[inside],
        start_ns=start_ns,
        end_ns=end_ns,
        due=_within(columns["scheduled_ns"], start_ns, end_ns),
        sent=_within(columns["sent_ns"], start_ns, end_ns),
        longest_silence_ms=_longest_silence_ms(
            columns["sent_ns"], columns["done_ns"], start_ns, end_ns, since_ns
        ),
        waiting_ms=max(waiting_ms, _waiting_ms(columns["sent_ns"], columns["done_ns"], end_ns)),
    )


def _waiting_ms(sent_ns: Array, done_ns: Array, end_ns: int) -> float:
    """How long the oldest of the requests that were answered after the window had been in flight at its end."""
    over = sent_ns[(sent_ns < end_ns) & (done_ns >= end_ns)]
    return float(end_ns - over.min()) / 1e6 if len(over) else 0.0


def _within(moments_ns: Array, start_ns: int, end_ns: int) -> int:
    return int(np.count_nonzero((moments_ns >= start_ns) & (moments_ns < end_ns)))


def _gaps_ms(user: Array, sent_ns: Array, done_ns: Array) -> Floats:
    """The time before each request since the same user's last answer, in the order given."""
    gaps = np.full(len(user), np.nan)
    order = np.lexsort((sent_ns, user))
    same = user[order][1:] == user[order][:-1]
    between = (sent_ns[order][1:] - done_ns[order][:-1]) / 1e6
    gaps[order[1:][same]] = between[same]
    return gaps


def _longest_silence_ms(
    sent_ns: Array, done_ns: Array, start_ns: int, end_ns: int, since_ns: int | None
) -> float:
    """The longest time within the window without an answer while at least one was due.

    Both arrays are in the order of completion. A silence begins with the last answer, or later with the
    first send of a request that is still unanswered. What was unanswered when the samples were collected
    is not among them: the oldest of these was sent at ``since_ns``.
    """
    if since_ns is not None:
        done_ns = np.append(done_ns, end_ns)
        sent_ns = np.append(sent_ns, since_ns)
    if not len(done_ns):
        return 0.0
    waiting_since = np.minimum.accumulate(sent_ns[::-1])[::-1]
    begin = np.maximum(waiting_since, np.concatenate(([start_ns], done_ns[:-1])))
    silent = np.minimum(done_ns, end_ns) - np.maximum(begin, start_ns)
    return max(0.0, float(silent.max()) / 1e6)
