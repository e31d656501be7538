from __future__ import annotations

import numpy as np
import pytest

from harness.statistics.truncation import mser5


def test_the_end_of_a_warm_up_is_found() -> None:
    rng = np.random.default_rng(1)
    for seed_length in (50, 200, 400):
        series = rng.normal(10, 1, 2000)
        series[:seed_length] += 20 * np.exp(-np.arange(seed_length) / (seed_length / 3))
        truncation = mser5(series)
        assert truncation.settled
        assert seed_length * 0.4 <= truncation.index <= seed_length * 1.6 + 50, truncation
        assert str(truncation.index) in truncation.reason


def test_a_steady_series_keeps_nearly_everything() -> None:
    rng = np.random.default_rng(2)
    kept = [1 - mser5(rng.exponential(5, 1000)).index / 1000 for _ in range(50)]
    assert np.median(kept) > 0.8
    assert all(mser5(rng.exponential(5, 1000)).index <= 550 for _ in range(5))


def test_a_series_that_never_settles_says_so() -> None:
    truncation = mser5(np.linspace(0, 100, 1000))
    assert not truncation.settled
    assert "more than half" in truncation.reason


@pytest.mark.parametrize("length", [0, 1, 49])
def test_a_short_series_says_how_much_is_missing(length: int) -> None:
    truncation = mser5(np.ones(length))
    assert not truncation.settled
    assert truncation.index == 0
    assert f"{length} requests, 50 needed" in truncation.reason


def test_a_constant_series_is_settled_from_the_start() -> None:
    assert mser5([3.5] * 100).index == 0
    assert mser5([3.5] * 100).settled


def test_it_is_the_published_statistic() -> None:
    rng = np.random.default_rng(4)
    series = np.concatenate([rng.normal(20, 1, 100), rng.normal(10, 1, 300)])
    means = series.reshape(-1, 5).mean(axis=1)
    direct = [np.var(means[d:]) / (len(means) - d) for d in range(len(means) - 5)]
    assert mser5(series).index == 5 * int(np.argmin(direct))
