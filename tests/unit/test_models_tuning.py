from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.models.serving_cost import ServingCost
from harness.models.settings import Settings
from harness.models.tuning import pareto_front, rank

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def test_a_front_worked_by_hand() -> None:
    # (gain, cost): cheap and poor, dear and good, dear and poor, as good as the second but dearer.
    assert pareto_front([(0.8, 1), (0.9, 3), (0.7, 4), (0.9, 5)]) == {0, 1}


@given(PAIRS)
def test_nothing_beats_the_front_and_everything_else_is_beaten_by_it(
    pairs: list[tuple[int, int]],
) -> None:
    points = [(float(gain), float(cost)) for gain, cost in pairs]
    front = pareto_front(points)
    assert front
    for place, point in enumerate(points):
        beaten = any(dominates(points[member], point) for member in front)
        assert beaten == (place not in front)


def figures(*accuracies: float) -> list[dict[str, float]]:
    return [
        {"accuracy": value, "recall_macro": value - 0.1, "f1_macro": value / 2, "seconds": 2.0}
        for value in accuracies
    ]


def cost(latency_ms: float) -> ServingCost:
    return ServingCost(latency_ms=latency_ms, throughput=1.0, parameters=1, file_bytes=1)


def test_candidates_are_ranked_with_their_spread_and_the_front_is_marked() -> None:
    candidates = [
        Settings(network="cnn", l2=0.1),
        Settings(network="cnn_wide"),
        Settings(network="cnn"),
        Settings(network="cnn_small"),
    ]
    rows = [figures(0.5, 0.5), figures(0.9, 0.8), figures(0.8, 0.88), figures(0.7, 0.7)]
    costs = {"cnn": cost(2.0), "cnn_wide": cost(8.0), "cnn_small": cost(1.0)}
    results = rank(candidates, rows, costs)
    assert [each.settings.network for each in results] == ["cnn_wide", "cnn", "cnn_small", "cnn"]
    assert [each.front for each in results] == [True, True, True, False]
    best = results[0]
    assert best.accuracy.mean == pytest.approx(0.85)
    assert best.accuracy.std == pytest.approx(statistics.stdev([0.9, 0.8]))
    assert best.accuracy.folds == (0.9, 0.8)
    assert best.recall_macro.mean == pytest.approx(0.75)
    assert best.f1_macro.mean == pytest.approx(0.425)
    # One standard error of the best, stdev/√2 = 0.05, reaches down to 0.80.
    assert [each.near_best for each in results] == [True, True, False, False]


def test_among_equals_the_cheaper_is_ranked_first() -> None:
    candidates = [Settings(network="cnn"), Settings(network="cnn_small")]
    rows = [figures(0.9, 0.9), figures(0.9, 0.9)]
    results = rank(candidates, rows, {"cnn": cost(2.0), "cnn_small": cost(1.0)})
    assert [each.settings.network for each in results] == ["cnn_small", "cnn"]
    assert [each.front for each in results] == [True, False]
