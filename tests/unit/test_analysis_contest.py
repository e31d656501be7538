"""Models against each other: which are on the front, and what the report says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis import analyse
from harness.analysis.contest import Contest, compete
from harness.analysis.ranking import rank
from harness.point import Point
from harness.report.page import render_page
from harness.report.summary import summary
from harness.scenario import Slo
from harness.statistics.intervals import share_interval
from tests.pages import Page, refuse_loose_ends, refuse_outside, refuse_unlike_policy
from tests.runs import write_run
from tests.unit.test_analysis_ranking import point

if TYPE_CHECKING:
    from pathlib import Path

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis

SLO = Slo(p99_s=0.05)


def of(model: str, rate: float, **more: Any) -> PointResult:
    original = point(rate, **more)
    configuration = original.point.configuration.model_copy(update={"model": model})
    own = Point(
        configuration=configuration, workload=original.point.workload, load=original.point.load
    )
    return replace(original, point=own)


def export(accuracy: float | None, precision: str = "float32") -> dict[str, Any]:
    """What a run keeps of an ``export.json``."""
    reduced = precision != "float32"
    return {
        "precision": precision,
        "accuracy": accuracy,
        "parity": {"examples": 360},
        "loss": {"measure": "accuracy", "loss": 0.005, "examples": 232} if reduced else None,
        "training": {"parameters": 93_322, "data": {"name": "digits"}},
    }


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    text = "sweep: {concurrency: 1}\nmeasure: {window: 100ms, passes: 2}"
    return analyse(write_run(tmp_path_factory.mktemp("run"), text))


def contest(
    analysis: Analysis, exports: dict[str, dict[str, Any]], *points: PointResult
) -> Contest:
    known = replace(
        analysis,
        record=analysis.record.model_copy(update={"model": exports}),
        workloads=rank(points, SLO),
    )
    (only,) = compete(known)
    return only


def test_the_front_is_what_no_other_beats(analysis: Analysis) -> None:
    found = contest(
        analysis,
        {"slow": export(0.95), "right": export(0.99), "quick": export(0.97), "both": export(0.97)},
        of("slow", 900),
        of("right", 1000),
        of("quick", 3000),
        of("both", 2000),
    )
    assert [each.model for each in found.contenders] == ["quick", "both", "right", "slow"]
    assert [each.model for each in found.contenders if each.front] == ["quick", "right"]
    fastest, *_, slowest = found.contenders
    assert fastest.of_fastest is not None
    assert slowest.of_fastest is not None
    assert fastest.of_fastest.estimate == pytest.approx(1)
    assert slowest.of_fastest.estimate == pytest.approx(0.3)
    assert found.text.endswith(
        "on the front of accuracy and throughput:"
        " right (98.9% right, 1,005 inferences/s), quick (96.9% right, 3,015 inferences/s)"
    )


def test_what_cannot_be_told_apart_is_on_the_front_together(analysis: Analysis) -> None:
    exports = {"one": export(0.97), "other": export(0.97)}
    noisy = (0.05, -0.06, 0.04, -0.05)
    found = contest(analysis, exports, of("one", 1000), of("other", 1010, noise=noisy))
    assert all(each.front for each in found.contenders)
    faster = contest(analysis, exports, of("one", 1000), of("other", 1100))
    assert [each.front for each in faster.contenders] == [True, False]


def test_without_an_accuracy_or_a_level_within_the_slo_a_model_is_only_listed(
    analysis: Analysis,
) -> None:
    exports = {"known": export(0.97, "int8"), "unknown": export(None), "late": export(0.99)}
    found = contest(
        analysis, exports, of("known", 1000), of("unknown", 5000), of("late", 9000, p99_ms=(80, 90))
    )
    unknown, known, late = found.contenders
    assert (unknown.model, unknown.accuracy, unknown.front) == ("unknown", None, False)
    assert known.front
    assert (known.precision, known.loss) == ("int8", "0.50% of accuracy")
    assert known.judged_on == "digits, 360 examples"
    assert late.best is None
    assert "no level meets the SLO" in late.why_not


def test_one_model_is_no_contest(analysis: Analysis) -> None:
    assert compete(analysis) == ()


def test_the_page_and_the_summary_hold_every_model(tmp_path: Path) -> None:
    text = """
model: cnn
sweep: {precision: [float32, int8], protocol: [http, grpc], concurrency: [1, 4]}
measure: {window: 500ms, passes: 3}
slo: {p99: 50ms, errors: 0}
"""
    run = write_run(tmp_path, text)
    exports = {"cnn": export(0.975), "cnn_int8": export(0.969, "int8")}
    run.write_record(run.record().model_copy(update={"model": exports}))
    analysis = analyse(run)
    page = Page(render_page(analysis))
    assert not page.problems
    refuse_outside(page)
    refuse_loose_ends(page)
    refuse_unlike_policy(page)
    said = "\n".join(page.lines)
    assert "Accuracy against throughput" in said
    assert "97.5" in said
    assert "95.3–98.7" in said
    assert "0.50% of accuracy" in said
    models = summary(analysis)["models"]
    assert [each["workload"] for each in models] == ["grpc-b1", "http-b1"]
    int8 = next(each for each in models[0]["contenders"] if each["model"] == "cnn_int8")
    assert int8["precision"] == "int8"
    assert int8["accuracy"]["estimate"] == pytest.approx(349 / 360)
    assert int8["throughput"]["low"] < int8["throughput"]["estimate"]
    assert all("front of accuracy" in contest.text for contest in compete(analysis))
    # One model has nobody to be held against.
    alone = write_run(tmp_path / "alone", text.replace("[float32, int8]", "[float32]"))
    assert "Accuracy against throughput" not in render_page(analyse(alone))


def test_the_interval_of_a_share_is_wilsons() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17
    # (1998), table I, method 3.
    for count, of_, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605),
                                  (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):  # fmt: skip
        interval = share_interval(count, of_)
        assert interval.low == pytest.approx(low, abs=5e-5)
        assert interval.high == pytest.approx(high, abs=5e-5)
    with pytest.raises(ValueError, match="no share"):
        share_interval(3, 2)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_interval_of_a_share_holds_it_and_no_more_than_there_is(of_: int, share: float) -> None:
    interval = share_interval(round(share * of_), of_)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
