from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.formats import bounds, byte_size, duration, number, percent, span, tick
from harness.statistics.intervals import Interval


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (0.01234, "0.012"),
        (0.0004, "0"),
        (0.12345, "0.123"),
        (0.9996, "1.00"),
        (1.2345, "1.23"),
        (12.345, "12.3"),
        (99.96, "100"),
        (123.45, "123"),
        (12345.6, "12,346"),
        (-12.345, "−12.3"),
        (7, "7"),
        (12345, "12,345"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_numbers_carry_three_digits(value: float | None, written: str) -> None:
    assert number(value) == written


@given(st.floats(0.01, 1e9))
def test_a_written_number_is_near_the_number(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.0051, abs=0.0005)


def test_the_ends_of_an_interval_have_the_digits_of_its_middle() -> None:
    assert bounds(Interval(12.34, 9.876, 14.0)) == "9.9–14.0"
    assert bounds(Interval(1234.5, 998.7, 1500.0)) == "999–1,500"
    assert span(0.91, 1.104, 1.0) == "0.91–1.10"


def test_an_interval_without_bounds_claims_nothing() -> None:
    assert bounds(Interval(12.3)) == "–"
    assert bounds(Interval(12.3, 11.0, math.inf)) == "11.0–∞"


def test_no_bound_is_below_zero() -> None:
    assert bounds(Interval(2.0, -3.0, 7.0)) == "0–7.00"


@pytest.mark.parametrize(
    ("share", "signed", "written"),
    [
        (0.384, True, "+38"),
        (-0.031, True, "−3.1"),
        (0.004, False, "0.4"),
        (0.0001, False, "<0.1"),
        (0.0, True, "0"),
        (4.11, True, "+411"),
    ],
)
def test_shares_in_per_cent(share: float, *, signed: bool, written: str) -> None:
    assert percent(share, signed=signed) == f"{written}\u202f%"


def test_what_is_not_known_is_a_dash() -> None:
    assert percent(None) == percent(math.nan) == byte_size(None) == "–"


def test_ticks_have_no_empty_digits() -> None:
    assert [tick(value) for value in (0.5, 1, 2.0, 12.5, 1000)] == [
        "0.5",
        "1",
        "2",
        "12.5",
        "1,000",
    ]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(3.4, "3 s"), (252, "4 min 12 s"), (3780, "1 h 03 min"), (-1, "0 s")],
)
def test_durations(seconds: float, written: str) -> None:
    assert duration(timedelta(seconds=seconds)).replace("\u202f", " ") == written


@pytest.mark.parametrize(
    ("size", "written"), [(512, "512 B"), (16_750_000_000, "15.6 GiB"), (2**50, "1,024 TiB")]
)
def test_sizes(size: int, written: str) -> None:
    assert byte_size(size).replace("\u202f", " ") == written
