"""What must not be believed is found out: wrong answers at status 200, a starved generator, a frozen server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from harness.analysis import analyse
from harness.archive import create_run, open_run
from harness.bench import open_bench
from harness.experiment import _new_record, make_plan
from harness.point import ClosedLoad, OpenLoad, Point, ServerConfiguration, Workload
from harness.report import write_report
from harness.scenario import parse_scenario
from harness.servers.embedded.environment import STAMP, find_environment
from harness.servers.embedded.installation import _sizes
from harness.sweep import PlannedTrial
from harness.window import let_pass
from tests.footprint import freeze
from tests.served import points_of, write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.archive import RunDirectory

    Harness = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.alone

SCENARIO = """\
model: [MODELS]
sweep: {concurrency: [4]}
measure: {window: 500ms, passes: 3, sentinels: false}
"""


def run_of(
    harness: Harness, folder: Path, models: list[str], code: int | tuple[int, ...]
) -> tuple[Path, list[dict[str, str]]]:
    """Measure models of ``folder / "models"``; the run directory and a row a point."""
    scenario = folder / "doubt.yaml"
    scenario.write_text(SCENARIO.replace("MODELS", ", ".join(models)))
    options = ("--models", folder / "models", "--output", folder / "reports")
    done = harness("run", scenario, *options, code=code)
    run = Path(done.stdout.splitlines()[-1]).parent
    return run, points_of(run)


@pytest.mark.long
def test_wrong_answers_end_a_run_with_4(harness: Harness, tmp_path: Path) -> None:
    """Values that are no numbers, and the wrong class in 2 % of the answers, beside a model that is right."""
    write_model(tmp_path / "models", "nan", "x * np.nan")
    write_model(tmp_path / "models", "fickle", "x if number % 50 else np.roll(x, 1, axis=1)")
    write_model(tmp_path / "models", "right")
    run, points = run_of(harness, tmp_path, ["nan", "fickle", "right"], code=4)
    shares = {row["model"]: int(row["wrong_answers"]) / int(row["requests"]) for row in points}
    assert shares["nan"] == 1
    assert shares["fickle"] == pytest.approx(0.02, abs=0.01)
    assert shares["right"] == 0
    verdicts = {row["model"]: row["verdict"] for row in points}
    assert verdicts["nan"] == verdicts["fickle"] == "wrong answers"
    assert verdicts["right"] != "wrong answers"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["verdict"]["text"].startswith("wrong answers in 2 points")
    winners = {each["model"]: each["recommendation"] for each in summary["workloads"]}
    assert winners["nan"] is winners["fickle"] is None
    log = (run / "logs" / "load.log").read_text()
    assert "not finite" in log
    assert "most likely class" in log


@pytest.fixture
def home_with_numpy_2(tmp_path: Path) -> Path:
    """A copy of the server's environment in which only NumPy is another one, and which passes for whole."""
    environment, home = find_environment(), tmp_path / "home"
    copy = home / environment.path.name
    try:
        shutil.copytree(environment.path, copy, symlinks=True, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(environment.path, copy, symlinks=True)
    site = copy / environment.site.relative_to(environment.path)
    for old in site.glob("numpy*"):
        shutil.rmtree(old)
    minor = ".".join(environment.python_version.split(".")[:2])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wheel = ["--no-deps", "--only-binary=:all:", "--python-version", minor, "--target", str(site)]
    subprocess.run([*pip, *wheel, f"numpy=={np.__version__}"], check=True, timeout=240)
    stamp = json.loads((copy / STAMP).read_text())
    (copy / STAMP).unlink()  # it may be the same file as the original's
    stamp["files"] = dict(_sizes(copy))
    (copy / STAMP).write_text(json.dumps(stamp))
    return home


@pytest.mark.long
def test_answers_of_no_bytes_at_status_200_are_found_out(
    harness: Harness, home_with_numpy_2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Triton's stub of this version answers with NumPy 2, while the server says that it is ready."""
    assert np.__version__.startswith("2.")
    write_model(tmp_path / "models", "right")
    monkeypatch.setenv("TRITON_HARNESS_HOME", str(home_with_numpy_2))
    run, (row,) = run_of(harness, tmp_path, ["right"], code=4)
    assert row["verdict"] == "wrong answers"
    assert int(row["wrong_answers"]) == int(row["requests"]) > 0
    assert int(row["errors"]) == 0
    assert "no bytes" in (run / "logs" / "load.log").read_text()
    assert open_run(run).record().calibration is None  # the probe answers wrongly too
    assert "Not proved" in (run / "index.html").read_text()


@contextmanager
def busy(core: int, processes: int) -> Iterator[None]:
    """Processes that use all that they get of one core."""
    started = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        for process in started:
            psutil.Process(process.pid).cpu_affinity([core])
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.long
def test_a_starved_generator_is_named_with_its_cause(harness: Harness, tmp_path: Path) -> None:
    """The generator on one core, beside processes that want it too; the server elsewhere."""
    first, *others = sorted(psutil.Process().cpu_affinity())
    write_model(tmp_path / "models", "right")
    scenario, reports = tmp_path / "starved.yaml", tmp_path / "reports"
    scenario.write_text(
        "model: right\n"
        f"server: {{cpus: {others or [first]}}}\n"
        f"generator: {{cpus: [{first}]}}\n"
        "sweep: {concurrency: [8]}\n"
        "measure: {window: 3s, passes: 3, sentinels: false}\n"
    )
    options = ["--models", tmp_path / "models", "--output", reports]
    with busy(first, processes=3):
        harness("run", scenario, *options, code=4)
    (run,) = (path.parent for path in reports.glob("*/run.json"))
    (row,) = points_of(run)
    assert row["verdict"] == "generator-bound", row["reasons"]
    symptoms = ("event loop was", "of the one core", "users took", "waited in the generator")
    assert any(symptom in row["reasons"] for symptom in symptoms), row["reasons"]
    assert "other processes of this machine used" in row["reasons"]


SLEEP_MS = 18
STALL_S = 1.0
MOST_MS = 3 * SLEEP_MS
ATTEMPTS = 3
LOADS = (
    OpenLoad(rate=9.9, arrivals="constant", max_in_flight=1),
    OpenLoad(rate=10, arrivals="constant"),
    ClosedLoad(concurrency=1),
)


@pytest.mark.long
def test_a_stall_shows_in_an_open_loop_and_is_hidden_by_a_closed_one(tmp_path: Path) -> None:
    """The server is frozen for 1 s of a 10 s window, at a fifth of what it can do at most.

    With one request in flight at most, service times hide what response times show; that is what a tool
    that falls behind its schedule would have said. A machine that holds up a twentieth of all requests
    hides nothing: then all is measured anew, at most three times.
    """
    write_model(tmp_path / "models", "sleeps", sleep_us=SLEEP_MS * 1000)
    for _ in range(ATTEMPTS):
        run = stalled_run(tmp_path)
        analysis = analyse(run)
        points = {result.point.load: result for result in analysis.results}
        capped, uncapped, closed = (points[load] for load in LOADS)
        hidden_ms = (p95(capped.service_percentiles), p95(closed.percentiles))
        if max(hidden_ms) < MOST_MS:
            break
    assert max(hidden_ms) < MOST_MS, hidden_ms
    assert p95(capped.percentiles) >= 400
    assert p95(uncapped.percentiles) >= 400
    assert p95(uncapped.service_percentiles) >= 400
    for point in points.values():
        assert not point.valid
        assert any(reason.startswith("nothing was answered for") for reason in point.reasons)
    hides = "a closed loop sent nothing meanwhile, so its percentiles hide it"
    assert hides in " ".join(closed.reasons)
    assert hides in write_report(run, analysis).read_text()


def stalled_run(folder: Path) -> RunDirectory:
    """A run of all loads, in each of whose windows the server is frozen."""
    text = (
        "model: sleeps\nsweep: {concurrency: [1]}\n"
        "measure: {window: 10s, passes: 1, sentinels: false, warmup_min: 1s, warmup_max: 1s}\n"
    )
    scenario = parse_scenario(text, name="stall", where="stall.yaml")
    plan = make_plan(scenario, text, folder / "models")
    run = create_run(folder / "reports", "stall")
    with open_bench(scenario, plan.models, run.logs, "stall", {}) as bench:
        server = next(pid for role, pid in bench.server.processes() if role == "server")
        for index, load in enumerate(LOADS, start=1):
            point = Point(
                configuration=ServerConfiguration(model="sleeps"), workload=Workload(), load=load
            )
            bench._configure(point.configuration)
            freezing = threading.Thread(target=freeze_midway, args=(server,))
            freezing.start()
            measured = bench.measure(PlannedTrial(0, point), index)
            freezing.join()
            run.seal_trial(measured.record, measured.samples, measured.telemetry)
    record = _new_record(plan, ())
    run.write_record(record.model_copy(update={"status": "complete"}))
    return run


def freeze_midway(pid: int) -> None:
    """From about the middle of the window on: it begins a good second after the level."""
    time.sleep(1 + 4.5)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(STALL_S)
    os.kill(pid, signal.SIGCONT)


def p95(percentiles: object) -> float:
    interval = percentiles[0.95].interval_ms
    assert interval is not None
    return interval.estimate


def test_a_stall_over_the_end_of_a_window_is_seen_and_what_waits_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests are in no percentile of the window: they end after it. All other passes are as quick as ever."""
    write_model(tmp_path / "models", "right")
    text = "model: right\nsweep: {rate: 100}\nmeasure: {window: 1s, passes: 3, sentinels: false}\n"
    plan = make_plan(parse_scenario(text, name="edge", where="edge"), text, tmp_path / "models")
    run = create_run(tmp_path / "reports", "edge")
    with open_bench(plan.scenario, plan.models, run.logs, "edge", {}) as bench:
        for index, trial in enumerate(plan.trials, start=1):
            bench._configure(trial.point.configuration)
            (stub,) = (pid for role, pid in bench.server.processes() if role == "stub")
            with monkeypatch.context() as patch, ExitStack() as thawed:
                if index == 2:
                    patch.setattr("harness.bench.let_pass", frozen_at_last(stub))
                    thawed.callback(os.kill, stub, signal.SIGCONT)
                measured = bench.measure(trial, index)
            assert measured.record.failure is None
            run.seal_trial(measured.record, measured.samples, measured.telemetry)
    run.write_record(_new_record(plan, ()).model_copy(update={"status": "complete"}))
    _, stalled, _ = run.trials()
    assert stalled.generator is not None
    assert stalled.generator.unanswered >= 20
    assert stalled.generator.waiting_ms >= 400
    (point,) = analyse(run).results
    assert not point.valid
    assert any(reason.startswith("nothing was answered for") for reason in point.reasons)
    assert point.arrivals is not None
    # Sent they were, too.
    assert point.arrivals.sent_rps == pytest.approx(point.arrivals.due_rps, rel=0.02)


def frozen_at_last(stub: int) -> Callable[..., None]:
    """A window at whose end nothing is answered any more."""

    def pass_and_freeze(*arguments: Any) -> None:
        let_pass(*arguments)
        freeze(stub)
        time.sleep(0.5)

    return pass_and_freeze
