"""The files of a report: their columns, their numbers, and that each is whole or not there."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.analysis import analyse
from harness.analysis.tables import COLUMNS
from harness.archive import RunDirectory, create_run
from harness.errors import EnvironmentFailedError, UsageError
from harness.report import rebuild, write_report
from harness.report.summary import summary
from harness.statistics.intervals import Interval
from tests.pages import Page
from tests.runs import write_run

if TYPE_CHECKING:
    from harness.analysis.results import Analysis

SMALL = """
model: cnn
sweep: {instances: [1, 2], dynamic_batching: [null, {max_queue_delay_us: 500}], concurrency: [2, 8]}
measure: {window: 500ms, passes: 3}
slo: {p99: 50ms}
"""
EXAMPLE = Path(__file__).parents[2] / "reports" / "example"
OUTPUTS = ("index.html", "summary.csv", "summary.json", "trials.csv")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = write_run(tmp_path_factory.mktemp("run"), SMALL, name="small")
    write_report(run, analyse(run))
    return run


@pytest.fixture(scope="module")
def analysis(written: RunDirectory) -> Analysis:
    return analyse(written)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_summary_csv_has_the_promised_columns_first(written: RunDirectory) -> None:
    header = (written.path / "summary.csv").read_text("utf-8").partition("\n")[0].split(",")
    assert tuple(header[: len(COLUMNS)]) == COLUMNS
    assert len(COLUMNS) == 37


def test_summary_csv_has_a_row_a_point(written: RunDirectory, analysis: Analysis) -> None:
    found = rows(written.path / "summary.csv")
    assert [row["point"] for row in found] == [result.key for result in analysis.results]
    for row, result in zip(found, analysis.results, strict=True):
        assert float(row["throughput"]) == pytest.approx(result.throughput.estimate, rel=1e-8)
        assert float(row["throughput_low"]) == pytest.approx(result.throughput.low, rel=1e-8)
        assert int(row["requests"]) == result.requests
        assert row["offered_rate"] == ""
        batched = result.point.configuration.dynamic_batching is not None
        assert row["max_queue_delay_us"] == ("500" if batched else "")


def test_trials_csv_has_a_row_a_trial(written: RunDirectory) -> None:
    found = rows(written.path / "trials.csv")
    assert [int(row["trial"]) for row in found] == [trial.index for trial in written.trials()]


def test_summary_json_says_what_to_do(written: RunDirectory, analysis: Analysis) -> None:
    data = json.loads((written.path / "summary.json").read_text("utf-8"))
    assert data["schema"] == 1
    assert data["meets_slo"] is True
    assert data["slo"] == {"p99_ms": 50.0, "errors": 0.0}
    (workload,), (result,) = data["workloads"], analysis.workloads
    assert result.winner is not None
    assert result.winner.best is not None
    assert workload["recommendation"]["configuration"] == result.winner.configuration.key
    assert workload["recommendation"]["point"] == result.winner.best.key
    throughput = workload["recommendation"]["throughput"]
    assert throughput["low"] < throughput["estimate"] < throughput["high"]
    assert workload["gain"]["low"] > 1
    points = {point["point"]: point for point in data["points"]}
    best = points[result.winner.best.key]
    assert best["verdict"] == "valid"
    assert best["latency_ms"]["p99"]["estimate"] == pytest.approx(
        result.winner.best.p99_ms.estimate
    )  # type: ignore[union-attr]
    assert sum(best["executed_batches"].values()) > 0
    parts = [value for value in best["breakdown_ms"].values() if value is not None]
    assert sum(parts) == pytest.approx(best["latency_ms"]["mean"]["estimate"], rel=0.02)


def test_what_is_no_number_is_null(analysis: Analysis) -> None:
    result = replace(
        analysis.results[0],
        throughput=Interval(5.0, math.nan, math.inf),
        latency_mean_ms=Interval(math.nan),
        client_gap_ms=math.nan,
    )
    data: dict[str, Any] = summary(replace(analysis, results=(result,)))
    text = json.dumps(data, allow_nan=False)
    (point,) = json.loads(text)["points"]
    assert point["throughput"] == {"estimate": 5.0, "low": None, "high": None}
    assert point["latency_ms"]["mean"] is None
    assert point["client_gap_ms"] is None


def test_a_percentile_without_support_says_what_it_needs(analysis: Analysis) -> None:
    result = analysis.results[0]
    short = replace(result.percentiles[0.99], interval_ms=None, samples=300, needs=459)
    result = replace(result, percentiles={**result.percentiles, 0.99: short})
    (point,) = summary(replace(analysis, results=(result,)))["points"]
    assert point["latency_ms"]["p99"] == {"needs": 459, "samples": 300}


def test_a_report_can_be_made_again_to_the_byte(written: RunDirectory) -> None:
    before = {name: (written.path / name).read_bytes() for name in OUTPUTS}
    for name in OUTPUTS:
        (written.path / name).unlink()
    _, page = rebuild(written)
    assert page == written.path / "index.html"
    assert {name: (written.path / name).read_bytes() for name in OUTPUTS} == before


def nine_digits(path: Path) -> str:
    """The file's text, to the byte but for more digits: Python 3.12 adds up less coarsely than 3.11."""
    return re.sub(r"\d+\.\d{8,}", lambda found: f"{float(found[0]):.9g}", path.read_text("utf-8"))


def test_the_example_is_what_this_program_makes_of_its_run(tmp_path: Path) -> None:
    again = tmp_path / "example"
    shutil.copytree(EXAMPLE, again)
    for name in OUTPUTS:
        (again / name).unlink()
    rebuild(RunDirectory(again))
    other = [n for n in OUTPUTS if nine_digits(again / n) != nine_digits(EXAMPLE / n)]
    assert not other, "if they should change: harness report reports/example, and read the diff"


def test_the_page_alone_goes_to_a_file(written: RunDirectory, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in written.path.iterdir()}
    _, page = rebuild(written, tmp_path / "for-the-boss.html")
    assert page == tmp_path / "for-the-boss.html"
    assert page.read_bytes() == (written.path / "index.html").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [page.name]
    assert {path: path.stat().st_mtime_ns for path in written.path.iterdir()} == before


def test_a_folder_gets_a_run_that_can_be_read_again(written: RunDirectory, tmp_path: Path) -> None:
    (written.logs / "server.log").write_text("a log\n")
    _, page = rebuild(written, tmp_path / "example")
    copied = RunDirectory(tmp_path / "example")
    assert page == copied.path / "index.html"
    assert copied.trials() == written.trials()
    assert copied.record() == written.record()
    assert not copied.logs.exists()
    for name in OUTPUTS:
        assert (copied.path / name).read_bytes() == (written.path / name).read_bytes()
    rebuild(written, copied.path)  # a second time it is replaced
    assert not [path for path in copied.path.rglob("*") if "partial" in path.name]


def test_a_copy_never_lands_on_something_else(written: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something that is no run"):
        rebuild(written, tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        rebuild(written, tmp_path / "precious.txt")
    with pytest.raises(UsageError, match="onto itself"):
        rebuild(written, written.path, anonymous=True)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    written: RunDirectory, analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (written.path / "index.html").read_bytes()

    def no_room(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(EnvironmentFailedError, match="No space left on device"):
        write_report(written, analysis)
    assert (written.path / "index.html").read_bytes() == before
    assert not [path for path in written.path.iterdir() if "partial" in path.name]


def test_a_run_without_a_trial_has_a_report(written: RunDirectory, tmp_path: Path) -> None:
    empty = create_run(tmp_path, "empty")
    reason = {"status": "failed", "status_reason": "the server did not start"}
    empty.write_record(written.record().model_copy(update=reason))
    analysis, page = rebuild(empty)
    assert analysis.exit_code == 4
    assert not analysis.meets_slo
    assert "the server did not start" in Page(page.read_text("utf-8")).lines
    assert rows(empty.path / "summary.csv") == []
    header = (empty.path / "summary.csv").read_text("utf-8").strip().split(",")
    assert tuple(header) == COLUMNS
    assert json.loads((empty.path / "summary.json").read_text("utf-8"))["workloads"] == []


def test_a_run_of_a_sentinel_alone_has_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path, SMALL)
    for trial in run.trials():
        if trial.role == "point":
            shutil.rmtree(run.path / "trials" / f"{trial.index:04d}")
    assert run.trials()
    reason = {"status": "failed", "status_reason": "the server ran out of memory"}
    run.write_record(run.record().model_copy(update=reason))
    for output in (None, tmp_path / "copy"):
        analysis, page = rebuild(run, output)
        assert analysis.exit_code == 4
        assert "the server ran out of memory" in Page(page.read_text("utf-8")).lines


def test_a_complete_run_whose_trials_are_lost_is_refused(
    written: RunDirectory, tmp_path: Path
) -> None:
    empty = create_run(tmp_path, "empty")
    record = written.record()
    empty.write_record(record)
    for output in (None, tmp_path / "copy"):
        with pytest.raises(
            UsageError, match=f"complete with {record.planned_trials} trials, and none .* Copy"
        ):
            rebuild(empty, output)
    assert sorted(path.name for path in empty.path.iterdir()) == ["logs", "run.json", "trials"]
    assert not (tmp_path / "copy").exists()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a readable run"):
        rebuild(RunDirectory(tmp_path))


def test_one_short_window_has_no_interval_and_still_a_report(tmp_path: Path) -> None:
    single = "measure: {window: 60ms, passes: 1}"
    run = write_run(tmp_path, SMALL.replace("measure: {window: 500ms, passes: 3}", single))
    analysis, page = rebuild(run)
    assert np.isnan(analysis.results[0].throughput.low)
    assert rows(run.path / "summary.csv")[0]["throughput_low"] == ""
    assert "No configuration qualifies" in Page(page.read_text("utf-8")).lines
