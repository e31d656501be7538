"""What intervals are made from where there is one window alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.sections import LEAST_IN_BATCH
from harness.statistics.intervals import MIN_BATCHES, interval_of_passes
from tests.unit.test_statistics_coverage import batches_of, mean_interval


def test_a_lone_window_is_cut_into_twentieths_of_its_time() -> None:
    values = np.arange(MIN_BATCHES * LEAST_IN_BATCH, dtype=np.float64)
    batches = batches_of(values)
    assert [len(batch) for batch in batches] == [LEAST_IN_BATCH] * MIN_BATCHES
    assert (np.concatenate(batches) == values).all()


def test_batches_admit_correlation_that_the_plain_interval_denies() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=20_000)
    series = np.empty_like(noise)
    series[0] = noise[0]
    for i in range(1, len(noise)):  # AR(1), φ = 0.9: the mean's variance is 19 times the naive one
        series[i] = 0.9 * series[i - 1] + noise[i]
    naive = interval_of_passes(series)
    batched = mean_interval(batches_of(series))
    truth = 10.0 / math.sqrt(20_000)  # standard error of the mean: σ/(1−φ)/√n
    assert (naive.high - naive.low) / 2 < truth
    assert (batched.high - batched.low) / 2 == pytest.approx(2.09 * truth, rel=0.4)


@pytest.mark.parametrize("answers", [0, 2, MIN_BATCHES * LEAST_IN_BATCH - 1])
def test_a_window_with_too_few_answers_for_its_batches_stays_whole(answers: int) -> None:
    batches = batches_of(np.ones(answers) if answers else np.empty(0))
    assert [len(batch) for batch in batches] == [answers]
