"""What ``harness run`` says before it starts, and of an error in the middle."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.progress import Progress as Bar

from harness import experiment
from harness.cli import run
from harness.cli.console import duration
from harness.errors import EnvironmentFailedError, UsageError
from harness.experiment import Progress, make_plan
from harness.records import Outcome
from harness.scenario import parse_scenario
from tests.runs import Measured, write_run
from tests.served import write_model

if TYPE_CHECKING:
    from harness.experiment import Plan


def plan(root: Path, text: str) -> Plan:
    write_model(root / "models", "cnn")
    return make_plan(parse_scenario(text, name="small", where="small"), text, root / "models")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "sweep: {concurrency: 1}\nmeasure: {passes: 1}\n",
            [
                "1 server configuration × 1 workload × 1 load level = 1 point",
                "1 pass of 1 s windows, 1 trial",
                "about 12 s",
            ],
        ),
        (
            (
                "sweep: {concurrency: [1, 2], instances: [1, 2], protocol: [http, grpc]}\n"
                "measure: {passes: 2, sentinels: false}\n"
            ),
            [
                "2 server configurations × 2 workloads × 2 load levels = 8 points",
                "2 passes of 1 s windows, 16 trials",
                "about 39 s",
            ],
        ),
        (
            (
                "sweep: {concurrency: 1}\n"
                "measure: {passes: 2, max_time: 5m, target: {throughput: 0.5%}, sentinels: false}\n"
            ),
            [
                "1 server configuration × 1 workload × 1 load level = 1 point",
                "2 to 8 (until throughput ±0.5 %, within 5 min 00 s) passes of 1 s windows, 2 trials",
                "about 13 s",
            ],
        ),
    ],
)
def test_a_plan_counts_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: list[str]
) -> None:
    run._show_plan(plan(tmp_path, text))
    assert [line.strip() for line in capsys.readouterr().err.splitlines()[1:]] == said


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (79.6, "1 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (172_799, "2 days 0 h"),
        (3.2e8, "3,703 days 17 h"),
    ],
)
def test_a_long_estimate_is_told_in_hours_and_days(seconds: float, written: str) -> None:
    assert duration(seconds) == written


def test_the_quickstart_is_36_points_in_five_minutes(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
    planned = plan(tmp_path, path.read_text())
    assert len(planned.points) == 36
    assert planned.estimate_s <= 300


def test_a_sweep_that_does_not_fit_its_model_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("sweep: {concurrency: 1, batch_size: 100000}\n")
    write_model(tmp_path / "models", "cnn")
    with pytest.raises(UsageError) as caught:
        run.run(file, dry_run=True, models=tmp_path / "models")
    assert caught.value.where == f"{file}: sweep.batch_size"


def test_an_error_with_brackets_keeps_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error may carry lines of a log, which are no markup."""

    def fail(*_: object, **__: object) -> None:
        raise EnvironmentFailedError("the server ended: [/tmp/foo] is full")

    monkeypatch.setattr(experiment, "run_experiment", fail)
    text = "sweep: {concurrency: [4]}\nmeasure: {window: 500ms, passes: 3}\n"
    written = write_run(tmp_path, f"model: cnn\n{text}")
    assert run._measure(plan(tmp_path, text), written) == 3
    assert "error: the server ended: [/tmp/foo] is full." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("p99", "code", "check", "ended"),
    [
        ("10s", 0, True, 0),
        ("1us", 0, False, 0),
        ("1us", 0, True, 1),
        ("1us", 3, True, 3),
    ],
)
def test_an_slo_that_is_not_met_is_an_exit_code_where_it_is_asked_for(
    tmp_path: Path, p99: str, code: int, check: bool, ended: int
) -> None:
    text = "sweep: {concurrency: [4]}\nmeasure: {window: 1s, passes: 3}\n"
    written = write_run(tmp_path, f"model: cnn\n{text}slo: {{p99: {p99}}}\n")
    assert run._conclude(written, code, check=check) == ended


def test_wrong_answers_weigh_more_than_an_slo(tmp_path: Path) -> None:
    def spoil(measured: Measured) -> Measured:
        measured.samples["outcome"][::2] = Outcome.WRONG_ANSWER
        return measured

    text = "sweep: {concurrency: [4]}\nmeasure: {window: 1s, passes: 3}\nslo: {p99: 1us}\n"
    written = write_run(tmp_path, f"model: cnn\n{text}", alter=spoil)
    assert run._conclude(written, 0, check=True) == 4


def test_the_progress_says_what_came_last_and_how_long_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "sweep: {concurrency: [4]}\nmeasure: {window: 1s, passes: 3}\n"
    trial = write_run(tmp_path, f"model: cnn\n{text}").trials()[0]
    bar = Bar()
    task = bar.add_task("", total=40, left="", last="")

    def shown(p99_ms: float, failure: str | None = None) -> tuple[str, str]:
        seen = trial.model_copy(update={"failure": failure})
        run._show(bar, task, Progress(20, 41, 10.0, 75.4, seen, 1234.5, p99_ms))
        fields = bar.tasks[0].fields
        return fields["left"], fields["last"].removeprefix(f"{trial.point.key}: ")

    assert shown(5.67) == ("1:15 left", "1,234 inferences/s, p99 5.7 ms")
    assert (bar.tasks[0].completed, bar.tasks[0].total) == (20, 41)
    assert shown(math.nan)[1] == "1,234 inferences/s"
    assert shown(5.67, "the server died")[1] == "failed"
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("20/41 trials, 1:15 left; cnn-i1-")
