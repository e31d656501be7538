from __future__ import annotations

import numpy as np

from harness.statistics.quantiles import quantile_interval
from harness.statistics.stopping import on_target

STEADY = [100.0, 101.0, 99.0]


def test_a_target_must_be_met_twice_in_a_row() -> None:
    lucky = [100.0, 80.0, 90.0, 90.0]  # narrow enough only with the last pass
    assert not on_target(lucky[:3], 0.15)
    assert not on_target(lucky, 0.15)
    assert on_target([*lucky, 90.0], 0.15)
    assert on_target([*STEADY, 100.0], 0.05)


def test_it_takes_three_passes_at_least() -> None:
    assert not on_target([], 10.0)
    assert not on_target([100.0], 10.0)
    assert not on_target([100.0, 100.0], 10.0)
    assert on_target([100.0, 100.0, 100.0], 10.0)


def test_a_percentile_stops_by_its_own_interval() -> None:
    rng = np.random.default_rng(1)
    passes = [rng.lognormal(0, 0.2, 3000) for _ in range(6)]
    assert on_target(passes, 0.1, lambda some: quantile_interval(some, 0.99))
    drifting = [samples * speed for samples, speed in zip(passes, range(1, 7), strict=True)]
    assert not on_target(drifting, 0.1, lambda some: quantile_interval(some, 0.99))
