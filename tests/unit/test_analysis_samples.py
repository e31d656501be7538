from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from harness.analysis.samples import cut
from harness.records import SAMPLE_COLUMNS, SAMPLE_DTYPE, Outcome

MS = 1_000_000


def table(*rows: tuple[float, ...], outcome: int = 0) -> pa.Table:
    """Requests as (user, sent, done) or (user, scheduled, sent, done) in ms."""
    samples = np.zeros(len(rows), SAMPLE_DTYPE)
    for row, (user, *times) in zip(samples, rows, strict=True):
        row["user"] = user
        row["scheduled_ns"] = round(times[0] * MS)
        row["sent_ns"] = round(times[-2] * MS)
        row["done_ns"] = round(times[-1] * MS)
        row["batch"], row["outcome"] = 1, outcome
    return pa.table({name: samples[name] for name in SAMPLE_COLUMNS})


def test_a_request_belongs_to_the_window_in_which_it_ended() -> None:
    rows = ((0, 0, 9.9), (0, 9.9, 10), (0, 5, 15), (1, 15, 19.999), (1, 19, 20), (0, 11, 25))
    window = cut(table(*rows), 10 * MS, 20 * MS, closed=False)
    assert (window.done_ns / MS).tolist() == [10, 15, 19.999]


def test_requests_stand_in_the_order_in_which_they_ended() -> None:
    window = cut(table((0, 0, 30), (1, 1, 12), (2, 2, 25)), 0, 100 * MS, closed=False)
    assert (window.done_ns / MS).tolist() == [12, 25, 30]
    assert window.service_ms.tolist() == [11, 23, 30]


def test_response_counts_from_the_schedule_and_service_from_the_send() -> None:
    window = cut(table((0, 1, 4, 9)), 0, 100 * MS, closed=False)
    assert window.response_ms.tolist() == [8]
    assert window.service_ms.tolist() == [5]


def test_a_gap_is_between_an_answer_and_the_same_users_next_send() -> None:
    rows = ((0, 0, 10), (1, 0, 11), (1, 11.5, 20), (0, 10.25, 21), (0, 21, 30))
    window = cut(table(*rows), 0, 100 * MS, closed=True)
    assert np.isnan(window.gap_ms[:2]).all()
    assert window.gap_ms[2:].tolist() == [0.5, 0.25, 0.0]


def test_only_right_answers_are_right() -> None:
    for outcome in Outcome:
        window = cut(table((0, 0, 1), outcome=outcome), 0, 10 * MS, closed=False)
        assert window.right.tolist() == [outcome is Outcome.OK]


def test_who_waits_at_the_end_is_known_whether_answered_later_or_not_at_all() -> None:
    rows = [(0, 0, 10), (1, 20, 150), (2, 60, 70)]
    later = cut(table(*rows), 0, 100 * MS, closed=False)
    assert later.waiting_ms == pytest.approx(80)
    never = cut(table(*rows), 0, 100 * MS, closed=False, waiting_ms=95)
    assert never.waiting_ms == pytest.approx(95)
    # All that were answered were quick; then nothing was, although something was asked for.
    silent = cut(table((0, 0, 10), (0, 10, 20)), 0, 100 * MS, closed=False, waiting_ms=70)
    assert silent.longest_silence_ms == pytest.approx(70)


@pytest.mark.parametrize(
    ("rows", "closed", "silence_ms"),
    [
        ([(0, 0, 10), (0, 10, 20), (0, 20, 60), (0, 60, 99)], False, 40),
        # Nothing was asked for between 10 and 50: that is no silence.
        ([(0, 0, 10), (0, 50, 55)], False, 10),
        # Two in flight: the silence is from one answer to the next, whoever asked.
        ([(0, 0, 30), (1, 20, 50), (0, 30, 90)], False, 40),
        # A closed loop always has a request in flight, also when the samples end.
        ([(0, 0, 10), (0, 10, 20)], True, 80),
        ([], True, 100),
        ([], False, 0),
        # A request that ended after the window was silent up to its end.
        ([(0, 0, 10), (0, 10, 300)], False, 90),
    ],
)
def test_a_silence_is_time_without_an_answer_that_was_due(
    rows: list[tuple[float, ...]],
    closed: bool,
    silence_ms: float,
) -> None:
    window = cut(table(*rows), 0, 100 * MS, closed=closed)
    assert window.longest_silence_ms == pytest.approx(silence_ms)
