"""Every load model of a scenario, in one short sweep on a real Triton."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.archive import open_run
from harness.scenario import read_scenario
from harness.window import TAIL_NS

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from harness.archive import RunDirectory
    from harness.records import TrialRecord

pytestmark = [pytest.mark.alone, pytest.mark.long]

ROOT = Path(__file__).parents[2]
SCENARIO = """\
model: cnn
sweep:
  arrivals: constant
  max_in_flight: 16
  load:
    - {kind: steps, rates: [20, 60], each: 500ms}
    - {kind: ramp, from: 20, to: 60, over: 1s}
    - {kind: spike, base: 20, peak: 80, at: 400ms, for: 200ms, over: 1s}
    - {kind: burst, rate: 60, on: 250ms, off: 250ms, for: 1s}
    - {kind: replay, file: log.csv, speed: 2}
    - {kind: soak, concurrency: 2, for: 1500ms}
    - {kind: soak, rate: 40, for: 1500ms}
    - {kind: poisson, rate: 40}
    - {kind: closed, concurrency: 2}
measure: {window: 500ms, passes: 1}
"""
# How many requests each shape makes due: the integral of its rate, or the lines of the file.
DUE = {"steps": 40, "ramp": 40, "spike": 32, "burst": 30, "replay": 21}


@pytest.fixture(scope="module")
def run(
    harness: Callable[..., subprocess.CompletedProcess[str]],
    triton_models: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> RunDirectory:
    folder = tmp_path_factory.mktemp("load-models")
    lines = ["time_s", *(f"{number / 10}" for number in range(21))]
    (folder / "log.csv").write_text("\n".join(lines))
    (folder / "loads.yaml").write_text(SCENARIO)
    options = ("--models", triton_models, "--output", folder / "reports")
    for _ in range(3):
        done = harness("run", folder / "loads.yaml", *options, code=(0, 4))
        run = open_run(Path(done.stdout.splitlines()[-1]).parent)
        if not any(map(was_late, run.trials())):
            break
    return run


def was_late(trial: TrialRecord) -> bool:
    """Whether a shape was given up with answers outstanding, as where this machine stalls."""
    if trial.shape_start_ns is None or trial.window_end_ns is None:
        return False
    took_ns = trial.window_end_ns - trial.shape_start_ns
    return took_ns >= trial.point.load.duration_s * 1e9 + TAIL_NS


def trial_of(run: RunDirectory, start: str) -> TrialRecord:
    (found,) = [
        trial
        for trial in run.trials()
        if trial.failure is None and trial.point.load.key.startswith(start)
    ]
    return found


@pytest.mark.parametrize("shape", DUE)
def test_a_shape_is_sent_whole_within_its_window(run: RunDirectory, shape: str) -> None:
    trial = trial_of(run, shape)
    assert trial.shape_start_ns is not None
    assert trial.window_start_ns is not None
    assert trial.window_end_ns is not None
    samples = run.samples(trial.index).to_pandas()
    due = samples[samples["scheduled_ns"] >= trial.shape_start_ns]
    assert len(due) == DUE[shape]
    assert trial.generator is not None
    assert trial.generator.unsent == 0
    assert due["done_ns"].between(trial.window_start_ns, trial.window_end_ns).all()
    assert trial.window_s >= trial.point.load.duration_s
    before = samples[samples["scheduled_ns"] < trial.shape_start_ns]
    assert len(before) > 0, "the server was not warmed up"


@pytest.mark.parametrize("key", ["c2-soak1.5s", "constant40-soak1.5s-cap16"])
def test_a_soak_has_a_window_of_its_own(run: RunDirectory, key: str) -> None:
    assert trial_of(run, key).window_s > 1.4


def test_the_report_shows_what_became_of_each(run: RunDirectory) -> None:
    rows = list(csv.DictReader((run.path / "summary.csv").read_text().splitlines()))
    loads = [row["load"] for row in rows]
    assert {*DUE, "open", "closed"} == set(loads)
    for row in rows:
        opened = row["load"] != "closed"
        for name in ("offered_rate", "due_rate", "sent_rate", "achieved_rate", "unsent_requests"):
            assert bool(row[name]) == opened, (row["point"], name)
        assert bool(row["service_ms_mean"]) == opened
    page = (run.path / "index.html").read_text()
    for shape in DUE:
        assert f"client batch 1, {trial_of(run, shape).point.load.key}" in page


@pytest.mark.parametrize("name", ["open_loop", "spike"])
def test_the_committed_scenarios_can_be_planned(
    harness: Callable[..., subprocess.CompletedProcess[str]], triton_models: Path, name: str
) -> None:
    path = ROOT / "scenarios" / f"{name}.yaml"
    assert read_scenario(path)[0].sweep.loads
    planned = harness("run", path, "--models", triton_models, "--dry-run")
    assert "load levels" in planned.stderr


def test_a_replay_that_is_missing_is_one_sentence(
    harness: Callable[..., subprocess.CompletedProcess[str]], triton_models: Path, tmp_path: Path
) -> None:
    scenario = tmp_path / "x.yaml"
    scenario.write_text("sweep:\n  load: {kind: replay, file: absent.csv}\n")
    options = ("--models", triton_models, "--output", tmp_path / "reports")
    done = harness("run", scenario, *options, code=2)
    assert "x.yaml:2: sweep.load" in done.stderr
    assert "absent.csv cannot be read" in done.stderr
    assert not (tmp_path / "reports").exists()
