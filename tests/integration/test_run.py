"""The main job on a real Triton: a small sweep, its run directory, its figures, its ways to end."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.archive import open_run
from harness.records import Outcome
from tests.footprint import Footprint, nothing_left, wait_until
from tests.served import points_of, write_model

if TYPE_CHECKING:
    from collections.abc import Callable

    Harness = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[2]
SCENARIO = """\
model: cnn
sweep:
  instances: [1, 2]
  dynamic_batching: [null, {max_queue_delay_us: 500}]
  batch_size: [8]
  concurrency: [1, 8]
  protocol: [http]
measure: {window: 500ms, passes: 3, seed: 11}
slo: {p99: 1s, errors: 0}
"""
SEED = 11
SLOW_IS_LAST = 1  # of lazy, queueing and slow
COLUMNS = [
    "point",
    "model",
    "backend",
    "instances",
    "max_batch_size",
    "dynamic_batching",
    "max_queue_delay_us",
    "protocol",
    "batch_size",
    "load",
    "concurrency",
    "offered_rate",
    "passes",
    "window_s",
    "requests",
    "errors",
    "wrong_answers",
    "throughput",
    "throughput_low",
    "throughput_high",
    "latency_ms_mean",
    "latency_ms_p50",
    "latency_ms_p90",
    "latency_ms_p95",
    "latency_ms_p99",
    "latency_ms_p99_low",
    "latency_ms_p99_high",
    "client_gap_ms",
    "queue_ms",
    "compute_input_ms",
    "compute_infer_ms",
    "compute_output_ms",
    "executed_batch_mean",
    "client_cpu_cores",
    "server_cpu_cores",
    "verdict",
    "reasons",
]


def started(*arguments: object) -> tuple[subprocess.Popen[str], Footprint]:
    """The command, running, with its footprint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, Footprint(process.pid)


def sealed(reports: Path) -> int:
    return len(list(reports.glob("*/trials/0*")))


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return path


def revision() -> str | None:
    """The commit of this checkout, with a plus where a file differs; none where it is no checkout."""
    words = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    done = subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


@pytest.fixture(scope="module")
def revisions() -> list[str | None]:
    """That before the run, and that after it: somebody may be at work here meanwhile."""
    return [revision()]


@pytest.fixture(scope="module")
def run(
    harness: Harness,
    triton_models: Path,
    tmp_path_factory: pytest.TempPathFactory,
    revisions: list[str | None],
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("run")
    scenario = folder / "small.yaml"
    scenario.write_text(SCENARIO)
    done = harness(
        "run", scenario, "--models", triton_models, "--output", folder / "reports", code=(0, 4)
    )
    page = Path(done.stdout.splitlines()[-1])
    assert page.is_file()
    revisions.append(revision())
    return page.parent, done


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_everything_a_report_needs(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = run
    record = open_run(folder).record()
    assert record.status == "complete"
    assert record.server["version"]
    assert record.packages["locust"]
    for name in ("index.html", "summary.json", "summary.csv", "trials.csv"):
        assert (folder / name).stat().st_size > 0
    assert "Started GRPCInferenceService" in (folder / "logs" / "tritonserver.log").read_text()
    assert not list(folder.rglob(".*.partial"))


def test_a_run_notes_what_it_takes_to_do_it_again(
    run: tuple[Path, subprocess.CompletedProcess[str]], revisions: list[str | None]
) -> None:
    folder, done = run
    record = open_run(folder).record()
    assert record.seed == record.scenario["measure"]["seed"] == SEED
    assert record.scenario_text == SCENARIO
    program, *words = record.command
    assert program.endswith("harness/__main__.py")
    assert words == done.args[done.args.index("harness") + 1 :]
    models = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    (kib,) = re.findall(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert record.host["cpu_model"] == models[0].strip()
    assert record.host["cores"] == len(os.sched_getaffinity(0))
    assert record.host["memory_bytes"] == int(kib) * 1024
    assert record.git_revision in revisions


def test_the_summary_has_a_row_a_point_with_the_promised_columns(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    points = rows(run[0] / "summary.csv")
    assert list(points[0])[: len(COLUMNS)] == COLUMNS
    assert len(points) == 8
    for point in points:
        assert float(point["throughput"]) > 0, point
        assert point["errors"] == point["wrong_answers"] == "0", point
        assert float(point["latency_ms_p50"]) > 0
        assert point["verdict"]
        assert point["max_queue_delay_us"] == ("500" if point["dynamic_batching"] == "on" else "")


def test_requests_times_cycle_is_the_concurrency_but_for_the_cycles_that_windows_cut(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """A machine that stands still at the edge of a window moves work over it; nothing else may."""
    moved_s: Counter[str] = Counter()
    points, missed = rows(run[0] / "summary.csv"), 0
    for trial in open_run(run[0]).trials():
        start_ns, end_ns = trial.window_start_ns, trial.window_end_ns
        table = open_run(run[0]).samples(trial.index).to_pandas()
        edges_ns = [
            at_ns - table[table.done_ns < at_ns].groupby("user").done_ns.max()
            for at_ns in (start_ns, end_ns)
        ]
        assert [len(users) for users in edges_ns] == [trial.point.load.concurrency] * 2
        if trial.role == "point":
            moved_s[trial.point.key] += (edges_ns[0].sum() - edges_ns[1].sum()) / 1e9
    for point in points:
        window_s, users = float(point["window_s"]), float(point["concurrency"])
        cycle_s = (float(point["latency_ms_mean"]) + float(point["client_gap_ms"])) / 1e3
        seen = float(point["requests"]) / window_s * cycle_s
        assert seen == pytest.approx(users + moved_s[point["point"]] / window_s, rel=0.001)
        # Up to a cycle a window is the window's own doing; what is more than that makes a point doubtful.
        allowed = max(0.03, cycle_s / window_s * float(point["passes"]) ** 0.5)
        assert abs(seen / users - 1) <= allowed or point["verdict"] != "valid", point
        missed += abs(seen / users - 1) > 0.03
    # Where the machine stands still for 45 ms at an edge, a point may: one of eight did with three times the load
    # that it had cores for. It is never all of them.
    assert missed <= len(points) / 2


def test_the_count_agrees_with_the_servers_own(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """To 2 % or twice what is in flight, or the point says that it does not.

    A statistics call on a busy machine may take 60 ms, and its middle is only where the server most likely
    counted. Whatever that moment was, client and server agree.
    """
    doubted = {
        point["point"]
        for point in rows(run[0] / "summary.csv")
        if "but the server counted" in point["reasons"]
    }
    trials, missed = open_run(run[0]).trials(), 0
    for trial in trials:
        assert trial.failure is None
        assert trial.differences == ()
        assert trial.statistics is not None
        table = open_run(run[0]).samples(trial.index).to_pandas()
        assert (table.outcome == Outcome.OK).all()
        assert (
            table.compared.all()
        )  # ten values for each input are few; of many it is 1 answer in 16
        users = trial.point.load.concurrency
        counted = trial.statistics.success_count
        edge_ns = round(trial.statistics.edge_error_ms * 1e6)
        least, inside, most = (
            int(
                table.done_ns.between(
                    trial.window_start_ns - wider, trial.window_end_ns + wider
                ).sum()
            )
            for wider in (-edge_ns, 0, edge_ns)
        )
        allowed = max(0.02 * counted, 2 * users)
        assert least - allowed <= counted <= most + allowed
        if trial.role == "point":
            assert abs(counted - inside) <= allowed or trial.point.key in doubted
        missed += abs(counted - inside) > allowed
    assert missed <= len(trials) / 2


def test_the_servers_metrics_are_read_while_windows_pass(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    trials, known = open_run(run[0]).trials(), 0
    for trial in trials:
        table = open_run(run[0]).metrics(trial.index)
        assert table is not None
        read = table.to_pandas()
        inside = read[
            (read.time_ns >= trial.window_start_ns) & (read.time_ns <= trial.window_end_ns)
        ]
        pending = inside[inside.name == "nv_inference_pending_request_count"]
        if pending.empty:  # a window of half a second on a busy machine
            continue
        known += 1
        assert pending.labels.unique().tolist() == ['{"model": "cnn", "version": "1"}']
        assert pending.value.between(0, trial.point.load.concurrency).all()
        # The counter's own increase is no more than what the statistics say of the whole window.
        counted = inside[inside.name == "nv_inference_count"].value
        assert trial.statistics is not None
        # One at an edge may have been counted outside, as far away as the reading next to it.
        first_ns, last_ns = inside.time_ns.min(), inside.time_ns.max()
        samples = open_run(run[0]).samples(trial.index).to_pandas()
        outside = samples[
            samples.done_ns.between(
                read.time_ns[read.time_ns < first_ns].max(), trial.window_start_ns
            )
            | samples.done_ns.between(
                trial.window_end_ns, read.time_ns[read.time_ns > last_ns].min()
            )
        ]
        most = trial.statistics.inference_count + outside.batch.sum()
        assert 0 <= counted.max() - counted.min() <= most
    assert known >= len(trials) / 2
    for point in rows(run[0] / "summary.csv"):
        if point["pending_mean"] == "":
            continue
        assert 0 <= float(point["pending_mean"]) <= float(point["pending_max"])
        assert point["gpu_joules_per_1000"] != "0"


def test_the_effective_configuration_is_the_one_asked_for(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    for trial in open_run(run[0]).trials():
        configuration = trial.point.configuration
        assert trial.effective is not None
        assert trial.effective["instance_group"][0]["count"] == configuration.instances
        assert ("dynamic_batching" in trial.effective) == bool(configuration.dynamic_batching)


def test_telemetry_goes_on_from_the_first_trial_to_the_last(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    archive = open_run(run[0])
    trials = archive.trials()
    last: dict[str, int] = {}
    gaps_s: dict[str, list[float]] = {}
    for trial in trials:
        tables = (archive.telemetry(trial.index), archive.metrics(trial.index))
        for kind, table in zip(("processes", "metrics"), tables, strict=True):
            moments = sorted(set(table.column("time_ns").to_pylist()))
            # Each reading is stored once, with the trial that it was read in.
            assert all(moment > last.get(kind, 0) for moment in moments)
            for moment in moments:
                if kind in last:
                    gaps_s.setdefault(kind, []).append((moment - last[kind]) / 1e9)
                last[kind] = moment
    # Loading a configuration takes seconds, and reading goes on meanwhile.
    run_s = (trials[-1].window_end_ns - trials[0].level_start_ns) / 1e9
    for gaps in gaps_s.values():
        assert max(gaps) < run_s / 4
        assert sum(gaps) >= 0.9 * run_s


@pytest.mark.no_gpu
def test_a_gpu_that_is_not_there_is_one_sentence_before_anything_is_measured(
    harness: Harness, scenario: Path, triton_models: Path, tmp_path: Path
) -> None:
    scenario.write_text(SCENARIO.replace("instances: [1, 2]", "kind: [cpu, gpu]"))
    reports = tmp_path / "reports"
    with nothing_left():
        done = harness("run", scenario, "--models", triton_models, "--output", reports, code=3)
    (said,) = [line for line in done.stderr.splitlines() if "GPU" in line]
    assert "the server has no GPU, and 1 instance on GPU" in said
    assert "prepare it with: harness server install --gpu, or leave gpu out" in said
    assert not sealed(reports)


@pytest.mark.long
def test_a_run_with_tritonclient_works_as_well_and_leaves_nothing_behind(
    scenario: Path, triton_models: Path, tmp_path: Path
) -> None:
    text = (
        SCENARIO.replace("[1, 2]", "[1]")
        .replace("[1, 8]", "[1]")
        .replace("passes: 3", "passes: 1, sender: tritonclient")
    )
    scenario.write_text(text)
    reports = tmp_path / "reports"
    process, footprint = started("run", scenario, "--models", triton_models, "--output", reports)
    try:
        wait_until(lambda: footprint.note().servers and sealed(reports) >= 1, timeout_s=120)
        process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode in (0, 4)
    footprint.assert_gone(files=False)
    page = next(reports.glob("*/index.html"))
    assert "through tritonclient’s own clients" in page.read_text()
    for trial in open_run(page.parent).trials():
        assert trial.failure is None
        outcomes = open_run(page.parent).samples(trial.index).column("outcome").to_numpy()
        assert set(outcomes) == {Outcome.OK}


def test_a_dry_run_shows_the_plan_and_starts_nothing(
    harness: Harness, scenario: Path, triton_models: Path, tmp_path: Path
) -> None:
    done = harness(
        "run", scenario, "--models", triton_models, "--output", tmp_path / "reports", "--dry-run"
    )
    assert "= 8 points" in done.stderr
    assert "about" in done.stderr
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_an_interrupted_run_keeps_and_reports_what_was_measured(
    scenario: Path, triton_models: Path, tmp_path: Path, number: signal.Signals
) -> None:
    reports = tmp_path / "reports"
    process, footprint = started("run", scenario, "--models", triton_models, "--output", reports)
    try:
        wait_until(lambda: footprint.note().servers and sealed(reports) >= 3, timeout_s=120)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    page = Path(stdout.splitlines()[-1])
    assert page.name == "index.html"
    record = open_run(page.parent).record()
    assert record.status == "interrupted"
    assert record.server["version"]
    assert record.calibration is not None
    assert len(open_run(page.parent).trials()) >= 3
    summary = json.loads((page.parent / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    footprint.assert_gone(files=False)


def test_a_model_that_was_not_exported_is_bad_input(
    harness: Harness, scenario: Path, tmp_path: Path
) -> None:
    done = harness("run", scenario, "--models", tmp_path, code=2)
    assert "harness export" in done.stderr


@pytest.mark.long
def test_a_window_shorter_than_one_request_is_bad_input_and_what_was_measured_is_kept(
    harness: Harness, tmp_path: Path
) -> None:
    """Only one that takes longer all by itself: not a slow first one, nor one that waits for others."""
    models, scenario = tmp_path / "models", tmp_path / "short.yaml"
    write_model(models, "lazy", "(number == 1 and time.sleep(0.7), x)[1]")
    write_model(models, "queueing", sleep_us=150_000)
    write_model(models, "slow", sleep_us=900_000)
    scenario.write_text(
        "model: [lazy, queueing, slow]\n"
        "sweep: {concurrency: 8}\n"
        f"measure: {{window: 500ms, warmup_max: 500ms, passes: 1, seed: {SLOW_IS_LAST}}}\n"
    )
    options = ("--models", models, "--output", tmp_path / "reports")
    done = harness("run", scenario, *options, code=2)
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said.startswith(
        "error: scenario short: measure.window: one request of slow-i1-nodyn-http-b1-c8"
    )
    took_s = float(said.split(" takes ")[1].split(" s ")[0])
    assert 0.9 <= took_s < 8 * 0.9  # which is how long the last of eight would wait
    assert "longer than its window of 0.5 s" in said
    run = Path(done.stdout.splitlines()[-1]).parent
    record = open_run(run).record()
    assert record.status == "failed"
    assert f"error: {record.status_reason}" == said
    assert record.server["version"]
    assert record.calibration is not None
    lazy, queueing = points_of(run)
    assert int(lazy["requests"]) > 0
    assert ": make the window longer" in queueing["reasons"]
    assert said.partition("measure.window")[2].split(",")[0] in (run / "index.html").read_text()
