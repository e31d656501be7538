from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.analysis import analyse
from harness.archive import RunDirectory
from harness.errors import UsageError
from harness.records import Outcome
from harness.report.drift import drift_panel
from harness.report.svg import StyleSheet
from tests.queueing import Machine
from tests.runs import with_outcome, with_record, write_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.runs import Measured

SMALL = """
model: cnn
sweep: {instances: [1, 2], concurrency: [2, 8]}
measure: {window: 1s, passes: 3}
slo: {p99: 50ms}
"""


def test_a_sound_run_is_valid_and_answers_in_a_line_a_workload(tmp_path: Path) -> None:
    analysis = analyse(write_run(tmp_path, SMALL))
    assert analysis.verdict.valid
    assert analysis.verdict.text == "valid"
    assert analysis.exit_code == 0
    assert analysis.meets_slo
    (line,) = analysis.headlines()
    assert line.startswith("cnn, HTTP, client batch 1: 2 instances, no dynamic batching is best: ")
    assert line.endswith(")")
    assert " times the default (" in line


def test_the_same_files_give_the_same_analysis(tmp_path: Path) -> None:
    run = write_run(tmp_path, SMALL)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    first, second = analyse(run), analyse(RunDirectory(run.path))
    assert repr(first) == repr(second)  # a figure that is not known is NaN, which equals nothing
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_no_slo_that_nothing_meets_goes_unnoticed(tmp_path: Path) -> None:
    analysis = analyse(write_run(tmp_path, SMALL.replace("50ms", "1ms")))
    assert not analysis.meets_slo
    assert analysis.exit_code == 0
    assert "no configuration qualifies (no level meets the SLO" in analysis.headlines()[0]


def only(key: str, change: Callable[[Measured], Measured]) -> Callable[[Measured], Measured]:
    return lambda measured: change(measured) if measured.record.point.key == key else measured


def test_wrong_answers_anywhere_end_with_4(tmp_path: Path) -> None:
    wrong = only("cnn-i1-nodyn-http-b1-c2", lambda m: with_outcome(m, Outcome.WRONG_ANSWER, 0.02))
    analysis = analyse(write_run(tmp_path, SMALL, alter=wrong))
    assert analysis.exit_code == 4
    assert not analysis.verdict.valid
    assert analysis.verdict.text == "wrong answers in 1 point, such as cnn-i1-nodyn-http-b1-c2"
    assert analysis.verdict.text in analysis.headlines()


def test_no_valid_point_ends_with_4(tmp_path: Path) -> None:
    broken = analyse(
        write_run(tmp_path, SMALL, alter=lambda m: with_record(m, failure="the server ended"))
    )
    assert broken.exit_code == 4
    assert broken.verdict.text == "no valid point"
    assert not broken.meets_slo


def test_an_interrupted_run_is_analysed_and_says_how_far_it_came(tmp_path: Path) -> None:
    run = write_run(tmp_path, SMALL)
    changes = {"status": "interrupted", "status_reason": "Ctrl-C", "planned_trials": 40}
    run.write_record(run.record().model_copy(update=changes))
    analysis = analyse(run)
    assert analysis.verdict.text == "interrupted: Ctrl-C (15 of 40 trials measured)"
    assert analysis.exit_code == 0
    assert analysis.meets_slo


def test_a_doubtful_point_that_might_have_won_is_the_runs_first_reason(tmp_path: Path) -> None:
    def busy(measured: Measured) -> Measured:
        health = measured.record.generator
        assert health is not None
        return with_record(measured, generator=health.model_copy(update={"cpu_s": 0.99}))

    best = "cnn-i2-nodyn-http-b1-c8"
    analysis = analyse(write_run(tmp_path, SMALL, alter=only(best, busy)))
    assert "would be better with" in analysis.verdict.text
    assert "generator" in analysis.verdict.text
    assert analysis.verdict.reasons[-1] == "1 of 4 points are doubtful: 1 generator-bound"


@pytest.mark.parametrize(("last", "valid"), [(1.1, True), (0.6, False)])
def test_sentinels_show_the_machines_drift(tmp_path: Path, last: float, valid: bool) -> None:
    def drift(measured: Measured) -> Measured:
        if measured.record.role != "sentinel" or measured.record.index == 0 or last > 1:
            return measured
        keep = [i % 10 < last * 10 for i in range(len(measured.samples))]
        return replace(measured, samples=measured.samples[keep])

    analysis = analyse(write_run(tmp_path, SMALL, alter=drift, machine=Machine(drift=0.0)))
    assert analysis.drift is not None
    assert len(analysis.drift.throughput) == 3
    assert analysis.verdict.valid is valid
    if not valid:
        assert analysis.drift.spread == pytest.approx(1 / last - 1, rel=0.05)
        assert analysis.verdict.text.startswith("the machine drifted: cnn-i1-nodyn-http-b1-c8 gave")


def sentinels(change: Callable[[Measured], Measured]) -> Callable[[Measured], Measured]:
    return lambda measured: change(measured) if measured.record.role == "sentinel" else measured


def test_wrong_answers_of_sentinels_end_with_4(tmp_path: Path) -> None:
    wrong = sentinels(lambda m: with_outcome(m, Outcome.WRONG_ANSWER, 0.02))
    analysis = analyse(write_run(tmp_path, SMALL, alter=wrong))
    assert analysis.exit_code == 4
    assert not analysis.verdict.valid
    assert all(result.valid for result in analysis.results)
    assert analysis.verdict.text.endswith(
        " wrong answers to the sentinel trials of cnn-i1-nodyn-http-b1-c8"
    )
    assert analysis.verdict.reasons == (analysis.verdict.text,)


@pytest.mark.parametrize(("allowed", "valid"), [("0", False), ("5%", True)])
def test_failures_of_sentinels_are_held_against_the_slo(
    tmp_path: Path, allowed: str, valid: bool
) -> None:
    failing = sentinels(lambda m: with_outcome(m, Outcome.TIMEOUT, 0.02))
    text = SMALL.replace("p99: 50ms", f"p99: 50ms, errors: {allowed}")
    analysis = analyse(write_run(tmp_path, text, alter=failing))
    assert analysis.verdict.valid is valid
    assert analysis.exit_code == 0
    said = "2 % of the requests of the sentinel trials failed"
    assert analysis.verdict.text == ("valid" if valid else said)


@pytest.mark.parametrize(("pass_index", "valid"), [(2, True), (1, False)])
def test_a_sentinel_that_broke_is_the_runs_matter_unless_it_was_repeated(
    tmp_path: Path, pass_index: int, valid: bool
) -> None:
    def die(measured: Measured) -> Measured:
        if measured.record.role != "sentinel" or measured.record.index:
            return measured  # the first of them becomes an attempt at another
        return with_record(measured, pass_index=pass_index, failure="it died", window_end_ns=None)

    analysis = analyse(write_run(tmp_path, SMALL, alter=die))
    assert analysis.verdict.valid is valid
    assert analysis.exit_code == 0
    said = (
        "1 trial broke and was repeated: it died"
        if valid
        else "1 of 3 sentinel trials failed: it died"
    )
    assert analysis.verdict.reasons == (said,)


def test_a_sentinel_that_gave_nothing_is_the_worst_drift(tmp_path: Path) -> None:
    def fail(measured: Measured) -> Measured:
        last = measured.record.role == "sentinel" and measured.record.pass_index == 3
        return with_outcome(measured, Outcome.REFUSED, 1.0) if last else measured

    analysis = analyse(write_run(tmp_path, SMALL, alter=fail))
    assert analysis.drift is not None
    assert analysis.drift.spread == math.inf
    assert not analysis.verdict.valid
    assert any("the machine drifted: " in reason for reason in analysis.verdict.reasons)
    panel = drift_panel(analysis, StyleSheet())
    assert panel is not None
    assert "∞" in panel.notes[0]


def test_sentinels_that_all_gave_nothing_are_drawn(tmp_path: Path) -> None:
    alter = sentinels(lambda m: with_outcome(m, Outcome.REFUSED, 1.0))
    analysis = analyse(write_run(tmp_path, SMALL, alter=alter))
    assert not analysis.verdict.valid
    assert drift_panel(analysis, StyleSheet()) is not None


def test_a_run_without_a_trial_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, SMALL)
    empty = RunDirectory(tmp_path / "empty")
    (empty.path / "trials").mkdir(parents=True)
    empty.write_record(run.record())
    with pytest.raises(UsageError, match="holds no trial"):
        analyse(empty)


def test_a_scenario_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, SMALL)
    path = run.path / "run.json"
    data = json.loads(path.read_text())
    data["scenario"]["slo"] = {"p99": "soon"}
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"run\.json: scenario"):
        analyse(run)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, SMALL)
    path = run.path / "trials" / "0003" / "samples.parquet"
    path.write_bytes(b"not parquet")
    with pytest.raises(UsageError, match=r"0003/samples\.parquet: not a readable table"):
        analyse(run)


def test_a_run_of_sentinels_alone_is_refused(tmp_path: Path) -> None:
    """It ended after its first trial, which is one: with a model that does not load."""
    run = write_run(tmp_path)
    for trial in run.trials():
        if trial.role == "point":
            shutil.rmtree(run.path / "trials" / f"{trial.index:04d}")
    assert run.trials()
    with pytest.raises(UsageError, match="it ended before anything was measured"):
        analyse(run)
