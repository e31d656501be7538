from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.models.serving_cost import ServingCost
from harness.models.settings import Settings
from harness.models.tuning import _Pace, pareto_front, rank

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


def test_the_time_left_is_that_of_the_fits_to_come_at_their_networks_pace() -> None:
    """Two folds of two networks, of which the wide one takes more epochs; one fit was done before."""
    small = Settings(network="cnn_small", epochs=10)
    wide = Settings(network="cnn_wide", epochs=20)
    pace = _Pace([(small.network, small.epochs), (wide.network, wide.epochs)], 2)
    # A fit that was done before says nothing of how long others take on this machine.
    pace.reused(small)
    first = pace.progress(small, 0.5)
    assert (first.done, first.planned, first.remaining_s) == (1, 4, 0)
    pace.fitted(small, 30)
    second = pace.progress(small, 0.9125)
    assert (second.done, second.last) == (2, "cnn_small, accuracy 0.912")
    # Of the other network nothing is known yet: two fits of 20 epochs at the 3 s of this one.
    assert second.remaining_s == pytest.approx(2 * 20 * 3)
    pace.fitted(wide, 100)
    third = pace.progress(wide, 0.9)
    assert (third.done, third.last) == (3, "cnn_wide, accuracy 0.900")
    assert third.remaining_s == pytest.approx(20 * 5)
    pace.fitted(wide, 140)
    last = pace.progress(wide, 0.9)
    assert (last.done, last.remaining_s, pace.reused_fits) == (4, 0, 1)


def test_the_pace_of_a_network_is_the_mean_of_its_fits() -> None:
    settings = Settings(network="cnn", epochs=10)
    pace = _Pace([("cnn", 10)] * 3, 1)
    pace.fitted(settings, 10)
    pace.fitted(settings, 30)
    assert pace.progress(settings, 0.9).remaining_s == pytest.approx(20)
