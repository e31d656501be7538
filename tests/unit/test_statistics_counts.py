from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.statistics.counts import quantile_is_supported, samples_needed


# MLPerf LoadGen's own numbers.
@pytest.mark.parametrize(
    ("q", "counts"),
    [
        (0.9, (44, 64, 81)),
        (0.95, (90, 130, 165)),
        (0.99, (459, 662, 838)),
        (0.999, (4603, 6636, 8403)),
    ],
)
def test_the_counts_are_loadgens(q: float, counts: tuple[int, ...]) -> None:
    assert tuple(samples_needed(q, over) for over in range(3)) == counts


@given(st.floats(0.05, 0.999), st.integers(0, 20))
def test_one_sample_less_would_not_do(q: float, over: int) -> None:
    needed = samples_needed(q, over)
    assert stats.binom.cdf(over, needed, 1 - q) <= 0.01 * (1 + 1e-9)
    assert stats.binom.cdf(over, needed - 1, 1 - q) > 0.01 * (1 - 1e-9)


def test_a_percentile_is_supported_from_the_first_count_on() -> None:
    assert quantile_is_supported(0.99, 459)
    assert not quantile_is_supported(0.99, 458)
    assert not quantile_is_supported(0.5, 0)


@pytest.mark.parametrize(("q", "over"), [(0.0, 0), (1.0, 0), (0.99, -1)])
def test_no_such_quantile(q: float, over: int) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        samples_needed(q, over)
