from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.scenario import Scenario
from harness.sweep import Seen, estimate_s, plan_pass, schedule, sentinel, sweep_points

if TYPE_CHECKING:
    from collections.abc import Callable


def scenario(measure: dict[str, object] | None = None, **sweep: object) -> Scenario:
    axes = {
        "instances": [1, 2],
        "dynamic_batching": [None, {"max_queue_delay_us": 0}, {"max_queue_delay_us": 1000}],
        "batch_size": [1, 8],
        "concurrency": [1, 8, 32],
        **sweep,
    }
    return Scenario.model_validate({"name": "s", "sweep": axes, "measure": measure or {}})


def test_every_combination_is_one_point_with_a_name_of_its_own() -> None:
    points = sweep_points(scenario(), {"cnn": 64})
    assert len(points) == 2 * 3 * 2 * 3
    assert len({point.key for point in points}) == len(points)


def test_more_than_ten_thousand_points_are_refused_before_they_are_made() -> None:
    with pytest.raises(UsageError, match=r"12,000,000,000 points.*10,000") as caught:
        sweep_points(
            scenario(
                max_batch_size=list(range(1, 2001)),
                instances=1,
                concurrency=list(range(1, 1001)),
                batch_size=list(range(1, 2001)),
            ),
            {"cnn": 4096},
        )
    assert caught.value.exit_code == 2


def test_a_batch_above_the_models_limit_names_both_numbers_and_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"batch_size 128 .* max_batch_size 64 .*--max-batch-size"):
        sweep_points(scenario(batch_size=[1, 128]), {"cnn": 64})


def test_a_batch_above_the_limit_names_the_file_and_raises_only_what_the_scenario_sets() -> None:
    with pytest.raises(UsageError) as caught:
        sweep_points(scenario(batch_size=128), {"cnn": 64}, where="small.yaml")
    assert str(caught.value).startswith("small.yaml: sweep.batch_size: batch_size 128")
    assert "sweep.max_batch_size" not in str(caught.value)
    with pytest.raises(UsageError, match=r"raise sweep\.max_batch_size, or export"):
        sweep_points(scenario(batch_size=128, max_batch_size=32), {"cnn": 64})


def test_a_model_without_a_batch_dimension_cannot_be_batched() -> None:
    with pytest.raises(UsageError, match="no batch dimension"):
        sweep_points(scenario(batch_size=[1]), {"cnn": 0})
    plain = scenario(batch_size=[1], dynamic_batching=[None])
    assert len(sweep_points(plain, {"cnn": 0})) == 2 * 3


def test_a_limit_below_zero_is_one_sentence_and_no_traceback() -> None:
    with pytest.raises(UsageError, match=r"model cnn: max_batch_size is -1 in its configuration"):
        sweep_points(scenario(batch_size=1), {"cnn": -1})


def test_precision_is_an_axis_of_exported_variants() -> None:
    asked = scenario(precision=["float32", "int8"])
    assert asked.variants == {"cnn": "float32", "cnn_int8": "int8"}
    points = sweep_points(asked, dict.fromkeys(asked.variants, 64))
    assert len(points) == 2 * len(sweep_points(scenario(), {"cnn": 64}))
    assert Counter(point.configuration.model for point in points) == {"cnn": 36, "cnn_int8": 36}
    # Not stated, a model is whatever it was exported as.
    assert scenario().variants == {"cnn": None}


def placed(**sweep: object) -> list[tuple[str, str, tuple[int, ...]]]:
    points = sweep_points(
        scenario(instances=1, dynamic_batching=None, batch_size=1, concurrency=1, **sweep),
        {"cnn": 64},
    )
    return [(p.configuration.key, p.configuration.kind, p.configuration.gpus) for p in points]


def test_processors_and_gpus_are_compared_side_by_side() -> None:
    assert placed() == [("cnn-i1-nodyn", "cpu", ())]
    assert placed(kind="gpu") == [("cnn-i1-gpu-nodyn", "gpu", ())]
    assert placed(kind=["cpu", "gpu"], gpus=[[0], [0, 1]]) == [
        ("cnn-i1-nodyn", "cpu", ()),
        ("cnn-i1-gpu_0-nodyn", "gpu", (0,)),
        ("cnn-i1-gpu_0_1-nodyn", "gpu", (0, 1)),
    ]
    assert placed(kind="gpu", gpus=[0, 1]) == [("cnn-i1-gpu_0_1-nodyn", "gpu", (0, 1))]
    assert placed(kind="gpu", gpus=1) == [("cnn-i1-gpu_1-nodyn", "gpu", (1,))]


@given(st.integers(0, 2**32), st.integers(0, 100))
def test_a_pass_visits_every_point_once_in_one_block_a_configuration(seed: int, index: int) -> None:
    points = sweep_points(scenario(), {"cnn": 64})
    trials = plan_pass(points, index, seed)
    assert Counter(trial.point.key for trial in trials) == Counter(point.key for point in points)
    blocks = [key for key, _ in groupby(trials, key=lambda trial: trial.point.configuration.key)]
    assert len(blocks) == len(set(blocks)) == 6
    assert trials == plan_pass(list(reversed(points)), index, seed)


def test_passes_differ_in_their_order() -> None:
    points = sweep_points(scenario(), {"cnn": 64})
    orders = {tuple(t.point.key for t in plan_pass(points, index, seed=7)) for index in range(10)}
    assert len(orders) == 10


def test_sentinels_stand_at_the_start_in_the_middle_and_at_the_end() -> None:
    run = scenario(measure={"passes": 4})
    points = sweep_points(run, {"cnn": 64})
    trials = list(schedule(points, run.measure))
    places = [place for place, trial in enumerate(trials) if trial.role == "sentinel"]
    assert places == [0, 1 + 2 * 36, len(trials) - 1]
    assert {trials[place].point for place in places} == {sentinel(points)}


def visits_of(
    measure: dict[str, object], throughput: Callable[[int, int], float], trial_s: float = 0.0
) -> list[int]:
    """How often each point is visited where its visits give ``throughput(point, visit)``, in ``trial_s`` each."""
    run = scenario(
        measure={"passes": 3, "target": {"throughput": "10%"}, "sentinels": False} | measure,
        instances=[1],
        dynamic_batching=[None],
        batch_size=[1],
    )
    points = sweep_points(run, {"cnn": 64})
    places = {point.key: place for place, point in enumerate(points)}
    seen = Seen()
    visits = [0] * len(points)
    for trial in schedule(points, run.measure, seen):
        place = places[trial.point.key]
        seen.throughput.setdefault(trial.point.key, []).append(throughput(place, visits[place]))
        seen.elapsed_s += trial_s
        visits[place] += 1
    return visits


def swings(_: int, visit: int) -> float:
    return 100.0 + 50.0 * (visit % 2)


def test_points_short_of_their_target_are_visited_again_and_no_others() -> None:
    first, *others = visits_of(
        {"max_passes": 6},
        lambda point, visit: 100.0 + 0.001 * visit if point else swings(point, visit),
    )
    assert first == 6
    assert set(others) == {3}


@pytest.mark.parametrize(("max_time", "visits"), [("1s", 9), ("10s", 10), ("1h", 18)])
def test_no_further_visit_begins_after_the_longest_time(max_time: str, visits: int) -> None:
    """Three points, a second each visit: the three passes of each are made whatever they take."""
    seen = visits_of({"max_passes": 6, "max_time": max_time}, swings, trial_s=1.0)
    assert len(seen) == 3
    assert sum(seen) == visits
    assert max(seen) - min(seen) <= 1


def test_an_estimate_grows_with_the_window_and_counts_every_reconfiguration() -> None:
    run = scenario(measure={"passes": 2, "sentinels": False})
    points = sweep_points(run, {"cnn": 64})
    trials = list(schedule(points, run.measure))
    longer = run.measure.model_copy(update={"window_s": run.measure.window_s + 1.0})
    grown = estimate_s(trials, longer) - estimate_s(trials, run.measure)
    assert grown == pytest.approx(len(trials))
    one_trial = estimate_s(trials[:1], run.measure)
    windows_s = (len(trials) - 1) * run.measure.window_s
    assert estimate_s(trials, run.measure) > windows_s + one_trial
