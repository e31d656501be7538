from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from harness.statistics.intervals import (
    Interval,
    interval_of_passes,
    noise_of,
    paired_ratio,
)

rates = st.floats(1e-3, 1e6)
passes = st.lists(rates, min_size=2, max_size=12)


@given(passes, st.floats(0.5, 0.999))
def test_the_interval_of_passes_is_students(values: list[float], confidence: float) -> None:
    interval = interval_of_passes(values, confidence)
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * math.sqrt(
        np.var(values, ddof=1) / len(values)
    )
    assert interval.estimate == pytest.approx(np.mean(values))
    assert interval.low == pytest.approx(np.mean(values) - half, rel=1e-6, abs=1e-6)
    assert interval.high == pytest.approx(np.mean(values) + half, rel=1e-6, abs=1e-6)


def test_one_pass_has_no_interval_and_none_has_no_estimate() -> None:
    one = interval_of_passes([5.0])
    assert one.estimate == 5.0
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert one.half_width_relative == math.inf
    assert not one.contains(5.0)
    assert not one.overlaps(one)
    assert math.isnan(interval_of_passes([]).estimate)


def test_a_pass_without_a_value_is_left_out() -> None:
    assert interval_of_passes([1.0, math.nan, 3.0]) == interval_of_passes([1.0, 3.0])


@given(passes, st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(values: list[float], factor: float) -> None:
    interval, other = (
        interval_of_passes(values),
        interval_of_passes([value * factor for value in values]),
    )
    assert interval.estimate * factor == pytest.approx(other.estimate)
    assert (interval.high - interval.low) * factor == pytest.approx(
        other.high - other.low, rel=1e-6, abs=1e-9 * other.estimate
    )


def test_half_width_is_relative_to_the_estimate() -> None:
    assert Interval(100.0, 92.0, 108.0).half_width_relative == pytest.approx(0.08)
    assert Interval(0.0, -1.0, 1.0).half_width_relative == math.inf
    assert Interval(5.0, 1.0, math.inf).half_width_relative == math.inf


def test_intervals_overlap_where_they_share_a_value() -> None:
    assert Interval(1, 0, 2).overlaps(Interval(3, 2, 4))
    assert not Interval(1, 0, 2).overlaps(Interval(3, 2.1, 4))


@given(arrays(np.float64, (6, 2), elements=rates))
def test_a_over_b_and_b_over_a_tell_the_same_story(pairs: np.ndarray) -> None:
    forth, back = paired_ratio(pairs[:, 0], pairs[:, 1]), paired_ratio(pairs[:, 1], pairs[:, 0])
    assert forth.estimate == pytest.approx(1 / back.estimate, rel=1e-6)
    assert forth.low == pytest.approx(1 / back.high, rel=1e-6)
    assert forth.high == pytest.approx(1 / back.low, rel=1e-6)


def test_pairing_takes_out_what_a_pass_does_to_both() -> None:
    machine = np.array([1.0, 0.7, 1.3, 0.9, 1.1])
    noise = np.array([1.01, 0.99, 1.0, 1.005, 0.995])
    a, b = 120 * machine * noise, 100 * machine
    ratio = paired_ratio(a, b)
    assert ratio.estimate == pytest.approx(1.2, rel=0.01)
    assert ratio.low > 1.15
    assert interval_of_passes(a).overlaps(interval_of_passes(b))


def test_passes_with_one_side_missing_are_not_paired() -> None:
    assert paired_ratio([2, math.nan, 4, 9], [1, 1, 2, 0]).estimate == pytest.approx(2)
    assert math.isnan(paired_ratio([], []).estimate)
    with pytest.raises(ValueError, match="2 and 1 passes"):
        paired_ratio([1, 2], [1])


def test_what_a_pass_does_to_all_and_what_each_rate_is_are_no_noise() -> None:
    machine, own = np.array([[1.0], [0.7], [1.3]]), np.array([[100.0, 150.0, 90.0, 400.0]])
    noise = noise_of(machine * own)
    assert noise is not None
    assert noise.deviation == pytest.approx(0, abs=1e-12)
    assert (noise.degrees, noise.rates) == (6, 4)


def test_two_rates_have_the_noise_of_their_ratio() -> None:
    pairs = np.array([[1.0, 1.1], [1.2, 1.0], [0.9, 1.0], [1.1, 1.3]])
    noise = noise_of(pairs)
    alone = paired_ratio(pairs[:, 0], pairs[:, 1])
    assert paired_ratio(pairs[:, 0], pairs[:, 1], noise=noise).high == pytest.approx(alone.high)


def test_the_wider_one_of_a_pairs_own_interval_and_that_of_all() -> None:
    rng = np.random.default_rng(1)
    rates = rng.lognormal(0, [0.001, 0.001, 0.1, 0.1], (6, 4))
    noise = noise_of(rates)
    quiet, noisy = ((rates[:, at], rates[:, at + 1]) for at in (0, 2))
    own, widened = paired_ratio(*quiet), paired_ratio(*quiet, noise=noise)
    assert widened.estimate == own.estimate
    assert widened.low < own.low < own.high < widened.high
    assert paired_ratio(*noisy, noise=noise).high >= paired_ratio(*noisy).high


@pytest.mark.parametrize("rates", [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, math.nan], [1.0, 2.0]]])
def test_one_whole_pass_or_one_rate_tells_no_noise(rates: list[list[float]]) -> None:
    assert noise_of(np.array(rates)) is None
