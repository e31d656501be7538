from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.load.health import Readings, health, most_in_flight

NOTHING = np.empty(0, np.int64)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=30),
    st.lists(st.integers(0, 60), max_size=5),
)
def test_most_in_flight_is_what_counting_gives(
    requests: list[tuple[int, int]], flying: list[int]
) -> None:
    start, end = 20, 50
    spans = [(sent, sent + length) for sent, length in requests] + [(s, 1000) for s in flying]
    # A request is in flight from its sending up to, and without, its end.
    counted = max(sum(sent <= t < done for sent, done in spans) for t in range(start, end))
    sent = np.array([r[0] for r in requests], np.int64)
    done = sent + np.array([r[1] for r in requests], np.int64)
    found = most_in_flight(sent, done, np.array(flying, np.int64), (start, end))
    assert found == counted


def make(rows: list[tuple[int, int, int]], window: tuple[int, int]) -> tuple[float | None, ...]:
    readings = Readings()
    for row in rows:
        readings.add(*row)
    array = np.frombuffer(readings.to_bytes(), np.int64).reshape(-1, 3)
    fared = health(array, window, reconnects_ns=NOTHING, unsent=0, in_flight=0, flying_ns=NOTHING)
    return fared.loop_lag_p99_ms, fared.loop_lag_max_ms, fared.cpu_s


def test_cpu_time_is_interpolated_at_the_edges() -> None:
    second = 1_000_000_000
    rows = [(t * second, 0, round(0.5 * t * second)) for t in range(11)]
    assert make(rows, (2_500_000_000, 6_500_000_000))[2] == pytest.approx(2.0)


def test_a_stall_that_touches_the_window_counts_and_no_other() -> None:
    ms = 1_000_000
    rows = [(t * ms, 0, 0) for t in range(10, 1000, 10)]
    quiet = make(rows, (200 * ms, 800 * ms))
    assert quiet[:2] == (0, 0)
    assert make([*rows, (195 * ms, 100 * ms, 0)], (200 * ms, 800 * ms))[1] == 0
    assert make([*rows, (850 * ms, 100 * ms, 0)], (200 * ms, 800 * ms))[1] == 100
    assert make([*rows, (950 * ms, 100 * ms, 0)], (200 * ms, 800 * ms))[1] == 0


def test_what_a_window_is_too_short_to_see_is_not_known() -> None:
    ms = 1_000_000
    rows = [(t * ms, 0, t * ms // 2) for t in range(100, 200, 10)]
    assert make(rows, (112 * ms, 118 * ms)) == (None, None, pytest.approx(0.003))
    assert make(rows, (192 * ms, 198 * ms)) == (None, None, None)
    assert make([], (192 * ms, 198 * ms)) == (None, None, None)


def test_reconnects_are_those_of_the_window() -> None:
    fared = health(
        np.empty((0, 3), np.int64),
        (10, 20),
        reconnects_ns=np.array([5, 10, 15, 25]),
        unsent=3,
        in_flight=7,
        flying_ns=np.array([8, 12, 19, 21]),
    )
    assert (fared.reconnects, fared.unsent, fared.max_in_flight) == (2, 3, 7)
    assert (fared.unanswered, fared.waiting_ms) == (2, pytest.approx(12e-6))
