from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UsageError
from harness.models.candidates import default_grids, grid_candidates, random_candidates

if TYPE_CHECKING:
    from harness.models.settings import Settings


def chosen(candidates: list[Settings], *names: str) -> set[tuple[Any, ...]]:
    return {tuple(getattr(each, name) for name in names) for each in candidates}


def test_a_grid_is_every_combination_on_top_of_what_is_fixed() -> None:
    grid = {"batch_size": [32, 64], "learning_rate": ["0.001", 0.01]}
    candidates = grid_candidates({"epochs": 3, "seed": 1}, [grid])
    assert chosen(candidates, "batch_size", "learning_rate", "epochs", "seed") == {
        (32, 0.001, 3, 1),
        (32, 0.01, 3, 1),
        (64, 0.001, 3, 1),
        (64, 0.01, 3, 1),
    }


def test_several_grids_are_joined_and_no_candidate_comes_twice() -> None:
    grids = [{"l2": [0.0, 0.1]}, {"l2": [0.1, 0.2]}]
    assert [each.l2 for each in grid_candidates({}, grids)] == [0.0, 0.1, 0.2]


def test_the_default_grid_varies_every_hyper_parameter_and_tries_every_network() -> None:
    candidates = grid_candidates({"epochs": 20}, default_grids({}))
    assert chosen(candidates, "network") == {("cnn",), ("cnn_small",), ("cnn_wide",), ("gru",)}
    for name in ("batch_size", "learning_rate", "l1", "l2"):
        assert len(chosen(candidates, name)) > 1, name
    assert len(candidates) == 8


def test_what_is_fixed_is_no_axis_of_the_default_grid() -> None:
    base = {"network": "cnn", "learning_rate": 0.002}
    candidates = grid_candidates(base, default_grids(base))
    assert chosen(candidates, "network", "learning_rate") == {("cnn", 0.002)}
    assert len(chosen(candidates, "batch_size")) == 2


def test_random_candidates_are_drawn_within_the_ranges_and_repeat_with_the_seed() -> None:
    grids = [{"learning_rate": [0.0001, 0.1], "batch_size": [16, 32]}, {"batch_size": [64]}]
    first = random_candidates({}, grids, 200, 5)
    assert first == random_candidates({}, grids, 200, 5)
    assert first != random_candidates({}, grids, 200, 6)
    rates = [each.learning_rate for each in first]
    assert min(rates) >= 0.0001
    assert max(rates) <= 0.1
    # Log-uniform: half of the draws lie below the geometric middle.
    below = sum(rate < math.sqrt(0.0001 * 0.1) for rate in rates)
    assert 70 < below < 130
    assert chosen(first, "batch_size") == {(16,), (32,), (64,)}


def test_random_candidates_are_no_more_than_there_are() -> None:
    assert len(random_candidates({}, [{"batch_size": [16, 32], "l2": [0.0, 0.1]}], 50, 1)) == 4


@pytest.mark.parametrize(
    ("grids", "sentence"),
    [
        ([{"batch_size": []}], "--batch-size: no value to try"),
        ([{"batch_size": [32, "many"]}], "--batch-size: expected a whole number above 0"),
        ([{"network": ["cnn", "cnn_smal"]}], "The nearest is cnn_small"),
        ([{"l1": range(100), "l2": range(11)}], "1,100 candidates, more than 1,000"),
    ],
)
def test_a_wrong_grid_is_refused(grids: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        grid_candidates({}, grids)
    assert sentence in str(refused.value)


def test_a_wrong_number_of_candidates_is_refused() -> None:
    with pytest.raises(UsageError, match="--candidates: expected 1 to 1,000"):
        random_candidates({}, [{"l2": [0.0]}], 0, 1)
