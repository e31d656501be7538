from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from harness.statistics.quantiles import (
    _least_share,
    order_statistic_interval,
    quantile,
    quantile_interval,
)

samples = arrays(np.float64, st.integers(1, 200), elements=st.floats(0.01, 1e4))


@given(samples, st.floats(0.01, 0.999))
def test_a_quantile_is_the_nearest_rank(values: np.ndarray, q: float) -> None:
    # A share that is above a rank's by no more than floats are off is that rank's.
    share = q - 1e-9 / len(values)
    assert quantile(values, q) == np.quantile(values, share, method="inverted_cdf")


def test_no_samples_have_no_quantile() -> None:
    assert math.isnan(quantile(np.array([]), 0.5))
    assert math.isnan(quantile_interval([np.array([])], 0.5).estimate)
    assert math.isnan(order_statistic_interval(np.array([]), 0.5).estimate)


@given(st.integers(20, 5000), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_order_statistics_bound_the_quantile_with_the_chance_that_they_claim(
    count: int, q: float
) -> None:
    ranks = order_statistic_interval(np.arange(1.0, count + 1), q)
    below = 0.0 if ranks.low == -math.inf else stats.binom.cdf(ranks.low - 1, count, q)
    above = 0.0 if ranks.high == math.inf else stats.binom.sf(ranks.high - 1, count, q)
    assert below <= 0.025 + 1e-9
    assert above <= 0.025 + 1e-9
    # and no closer pair of ranks would
    if ranks.low > 0:
        assert stats.binom.cdf(ranks.low, count, q) > 0.025 - 1e-9
    if ranks.high < math.inf:
        assert stats.binom.sf(ranks.high - 2, count, q) > 0.025 - 1e-9


def test_with_too_few_beyond_it_a_quantile_has_no_upper_bound() -> None:
    assert order_statistic_interval(np.arange(100.0), 0.99).high == math.inf


@given(st.lists(samples, min_size=2, max_size=6), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_interval_is_never_narrower_than_chance_within_the_samples(
    groups: list[np.ndarray], q: float
) -> None:
    pooled = np.concatenate(groups)
    within, interval = order_statistic_interval(pooled, q), quantile_interval(groups, q)
    assert interval.estimate == within.estimate == quantile(pooled, q)
    assert interval.low <= within.low <= interval.estimate <= within.high <= interval.high


def test_the_interval_admits_what_differs_between_passes() -> None:
    rng = np.random.default_rng(5)
    speeds = (1.0, 1.15, 0.9, 1.05, 0.95)
    groups = [speed * rng.lognormal(0, 0.3, 5000) for speed in speeds]
    interval = quantile_interval(groups, 0.99)
    within = order_statistic_interval(np.concatenate(groups), 0.99)
    logs = np.log([quantile(group, 0.99) for group in groups])
    half = stats.t.ppf(0.975, 4) * logs.std(ddof=1) / math.sqrt(5)
    assert half < math.log(interval.high / interval.estimate) < 2 * half
    assert half * 0.999 < math.log(interval.estimate / interval.low) < 2 * half
    assert interval.high - interval.low > 3 * (within.high - within.low)


def test_a_burst_in_one_pass_is_in_the_interval() -> None:
    rng = np.random.default_rng(6)
    calm = [rng.lognormal(0, 0.1, 2000) for _ in range(5)]
    burst = [*calm[:4], np.concatenate([calm[4][:1850], rng.lognormal(2, 0.1, 150)])]
    assert quantile_interval(calm, 0.99).half_width_relative < 0.05
    assert quantile_interval(burst, 0.99).low < 1.3
    assert quantile_interval(burst, 0.99).high > 6


@given(st.floats(0.001, 0.5), st.floats(0, 1), st.floats(0, 1))
def test_a_share_never_falls_to_none_and_falls_with_its_width(
    share: float, off: float, more: float
) -> None:
    least = _least_share(share, off)
    assert share >= least >= max(0.0, share - off)
    assert _least_share(share, off + more) <= least
    assert _least_share(share, share / 2) == pytest.approx(share / 2)


def test_one_pass_says_nothing_of_the_variation_between_passes() -> None:
    interval = quantile_interval([np.arange(1.0, 1000)], 0.9)
    assert interval.estimate == 900
    assert math.isnan(interval.low)
