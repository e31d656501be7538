"""The Locust files, run as a user runs them: ``locust -f scenarios/X.py --host …``."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from harness.analysis import analyse
from harness.analysis.verdicts import Verdict
from harness.archive import open_run
from harness.load.byhand.session import TAIL_NS
from harness.records import SAMPLE_COLUMNS, Outcome
from harness.reference import Reference, write_reference
from harness.scenario import ServerSpec
from harness.servers import serving
from harness.servers.control import Control
from harness.servers.staging import staged
from tests.footprint import listens, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.archive import RunDirectory
    from harness.records import TrialRecord
    from harness.servers.server import Server

ROOT = Path(__file__).parents[2]
LOCUST = Path(sys.executable).with_name("locust")
MODELS = ("identity", "wrong")
END_S = 60.0  # for what ends at once, or by itself, unless this machine is busy
# For which a level must be sent to be measured: 2 s until its warm-up has passed at the latest, and a window.
MEASURED_S = 4.0


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("by-hand")


@contextmanager
def served(logs: Path, run_id: str) -> Iterator[Server]:
    """A Triton with both models."""
    folders = {name: ROOT / "tests" / "models" / name for name in MODELS}
    with ExitStack() as stack:
        repository = stack.enter_context(staged(folders, run_id))
        server = stack.enter_context(serving(ServerSpec(), repository, logs=logs, run_id=run_id))
        with Control(server.endpoints) as control:
            for name in folders:
                control.load(name, deadline_s=60)
        yield server


@pytest.fixture(scope="module")
def server(logs: Path) -> Iterator[Server]:
    with served(logs, "by-hand") as server:
        yield server


@pytest.fixture(scope="module")
def reference(logs: Path) -> Path:
    path = logs / "reference.npz"
    values = np.random.default_rng(1).normal(size=(100, 1)).astype(np.float32)
    write_reference(path, Reference({"X": values}, {"Y": values}))
    return path


Start = Callable[..., subprocess.Popen[str]]


@contextmanager
def starting(server: Server, folder: Path) -> Iterator[Start]:
    """Start Locust with a file of ``scenarios/``, as often as wanted; all are ended at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(file: str, *arguments: object, log: str = "locust.log") -> subprocess.Popen[str]:
        hosts = ["--host", f"http://{server.endpoints.http}", "--grpc-host", server.endpoints.grpc]
        command = [str(LOCUST), "-f", str(ROOT / "scenarios" / file), *hosts]
        with (folder / log).open("w") as output:
            process = subprocess.Popen(
                [*command, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                cwd=folder,
            )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Iterator[Start]:
    """Starts Locust within the test."""
    with starting(server, tmp_path) as start:
        yield start


def said(tmp_path: Path) -> str:
    return (tmp_path / "locust.log").read_text()


def answered(control: Control) -> int:
    """How many requests the server has answered so far."""
    return sum(control.snapshot(model).counts["success_count"] for model in MODELS)


def send_more(server: Server, requests: int) -> None:
    """Wait until the server has answered so many more requests."""
    with Control(server.endpoints) as control:
        before = answered(control)
        wait_until(lambda: answered(control) >= before + requests, END_S, "answers")


def send_for(server: Server, seconds: float) -> None:
    """Wait until there were answers for so long; while Locust is held up, nothing is measured."""
    with Control(server.endpoints) as control:
        lasted_s, before, deadline = 0.0, answered(control), time.monotonic() + END_S
        while lasted_s < seconds:
            assert time.monotonic() < deadline, "nothing is sent"
            time.sleep(0.1)
            now = answered(control)
            lasted_s += 0.1 if now > before else 0.0
            before = now


@pytest.mark.long
def test_steps_leave_a_run_that_can_be_reported(
    start: Start,
    harness: Callable[..., object],
    reference: Path,
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    options = ["--headless", "--model", "identity", "--batch-size", 2, "--reference", reference]
    # A step goes by the clock, also while Locust is held up.
    steps = ["--steps", "1,6,2", "--step-time", 6, "--run-dir", run_dir]
    assert start("step_concurrency.py", *options, *steps).wait(END_S) == 0, said(tmp_path)

    run = open_run(run_dir)
    record = run.record()
    assert record.status == "complete"
    assert record.server["version"]
    trials = run.trials()
    assert record.planned_trials == len(trials) == 3
    assert [trial.point.load.concurrency for trial in trials] == [1, 6, 2]
    for trial in trials:
        assert trial.failure is None
        assert trial.point.key.startswith("identity-i1-")
        assert trial.effective is not None
        assert trial.effective["backend"] == "python"
        assert trial.generator is not None
        assert trial.generator.max_in_flight == trial.point.load.concurrency
        assert trial.warmup_reason
        samples = run.samples(trial.index).to_pandas()
        assert tuple(samples.columns) == SAMPLE_COLUMNS
        assert set(samples["outcome"]) == {Outcome.OK}
        assert set(samples["batch"]) == {2}
        assert samples["compared"].all()
        assert samples["user"].nunique() == trial.point.load.concurrency
        assert trial.level_start_ns <= trial.window_start_ns < trial.window_end_ns
        ended = samples["done_ns"].between(trial.window_start_ns, trial.window_end_ns)
        assert trial.statistics is not None
        # And what may have ended while the server was asked at either edge.
        per_ms = ended.sum() / trial.window_s / 1e3
        allowed = max(0.02 * ended.sum(), 2 * trial.point.load.concurrency)
        allowed += 2 * per_ms * trial.statistics.edge_error_ms
        assert abs(trial.statistics.success_count - ended.sum()) <= allowed
        roles = set(run.telemetry(trial.index).to_pandas()["role"])
        assert roles == {"generator", "server", "stub", "host"}

    harness("report", run_dir)
    assert (run_dir / "index.html").is_file()
    # Locust's own table counts the same requests, and what was sent between two levels.
    total = re.findall(r"Aggregated\s+(\d+)\s+(\d+)\(", said(tmp_path))[-1]
    assert int(total[0]) >= sum(len(run.samples(trial.index)) for trial in trials)
    assert int(total[1]) == 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_is_kept_when_it_is_interrupted(
    start: Start, server: Server, tmp_path: Path, sent: signal.Signals
) -> None:
    run_dir = tmp_path / "run"
    process = start(
        *("closed_loop.py", "--headless", "--model", "identity", "--run-dir", run_dir),
        *("--users", 8, "--spawn-rate", 8, "--protocol", "grpc"),
    )
    wait_until(lambda: "All users spawned" in said(tmp_path), END_S, "users")
    send_for(server, MEASURED_S)
    process.send_signal(sent)
    time.sleep(0.05)  # two that wait are one
    process.send_signal(sent)  # one Ctrl-C reaches a process twice where its parent passes it on
    assert process.wait(END_S) == 0, said(tmp_path)
    run = open_run(run_dir)
    assert run.record().status == "complete"
    (trial,) = run.trials()
    assert trial.failure is None
    assert trial.window_s > 0.5
    assert trial.statistics is not None
    assert len(run.samples(1)) > 100


RATE = 80


def test_a_level_whose_server_dies_is_kept_as_a_broken_trial(tmp_path: Path) -> None:
    with served(tmp_path, "dies") as server, starting(server, tmp_path) as start:
        process = start(
            *("closed_loop.py", "--headless", "--model", "identity", "--users", 4),
            *("--spawn-rate", 4, "--run-time", "60s", "--run-dir", tmp_path / "run"),
        )
        wait_until(lambda: "All users spawned" in said(tmp_path), END_S, "users")
        send_for(server, MEASURED_S)
        os.kill(server.processes()[0][1], signal.SIGKILL)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(END_S) == 1, said(
            tmp_path
        )  # Locust's own code where requests have failed
    assert "Traceback" not in said(tmp_path)
    run = open_run(tmp_path / "run")
    (trial,) = run.trials()
    assert trial.failure
    assert trial.effective["name"] == "identity"
    outcomes = run.samples(1)["outcome"].to_pylist()
    assert outcomes.count(Outcome.OK) > 100
    assert set(outcomes) & {Outcome.RESET, Outcome.REFUSED}


AT_RATE = ("open_loop.py", "--rate", RATE, "--users", 16, "--run-time", "8s")
STEADY = {
    "constant": (*AT_RATE, "--arrivals", "constant"),
    "poisson": (*AT_RATE, "--arrivals", "poisson"),
    # An interval takes 20,000 answers: twice as many come in that time on two cores that do other work beside.
    "soak": ("closed_loop.py", "--users", 2, "--run-time", "20s"),
}


@pytest.fixture(scope="module")
def steady(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """Steady loads, sent side by side: each mostly waits."""
    folder = tmp_path_factory.mktemp("steady")
    options = ("--headless", "--model", "identity", "--spawn-rate", 16)
    with starting(server, folder) as start:
        processes = {
            name: start(*load, *options, "--run-dir", folder / name, log=f"{name}.log")
            for name, load in STEADY.items()
        }
        for name, process in processes.items():
            assert process.wait(END_S) == 0, (folder / f"{name}.log").read_text()
    return {name: open_run(folder / name) for name in STEADY}


def scheduled_gaps_s(run: RunDirectory) -> np.ndarray:
    """The gaps between the arrivals of a run's one level."""
    (trial,) = run.trials()
    assert trial.failure is None
    assert trial.point.load.max_in_flight == 16
    samples = run.samples(1)
    assert set(samples["outcome"].to_pylist()) == {Outcome.OK}
    # Without the last: as many as there are users may still be on their way when the level ends.
    return np.diff(np.sort(samples["scheduled_ns"].to_numpy()))[:-16] / 1e9


@pytest.mark.long
def test_a_constant_rate_has_equal_gaps(steady: dict[str, RunDirectory]) -> None:
    gaps_s = scheduled_gaps_s(steady["constant"])
    assert steady["constant"].trials()[0].point.load.key == f"constant{RATE}-cap16"
    assert len(gaps_s) > 100
    np.testing.assert_allclose(gaps_s, 1 / RATE, atol=1e-9)


@pytest.mark.long
def test_poisson_arrivals_have_exponential_gaps(steady: dict[str, RunDirectory]) -> None:
    gaps_s = scheduled_gaps_s(steady["poisson"])
    assert steady["poisson"].trials()[0].point.load.key == f"poisson{RATE}-cap16"
    assert len(gaps_s) > 100
    within = 4 / np.sqrt(
        len(gaps_s)
    )  # four standard errors of either figure, and the seed is fixed
    assert gaps_s.mean() * RATE == pytest.approx(1, abs=within)
    assert (gaps_s > np.log(2) / RATE).mean() == pytest.approx(1 / 2, abs=within / 2)
    assert (gaps_s > 2 / RATE).mean() == pytest.approx(np.exp(-2), abs=within / 2)


@pytest.mark.long
def test_a_soak_is_one_long_window_with_an_interval_of_its_own(
    steady: dict[str, RunDirectory],
) -> None:
    (trial,) = steady["soak"].trials()
    assert trial.failure is None
    assert trial.point.load.concurrency == 2
    assert trial.window_s > 2
    (result,) = analyse(steady["soak"]).results
    assert result.passes == 1
    throughput = result.throughput
    assert 0 < throughput.low < throughput.estimate < throughput.high


SHAPES = {
    "ramp": ("from: 20, to: 100, over: 2s", "ramp20-100-2s-constant", 120, (40, 80)),
    "replay": ("file: log.csv, speed: 2", "replay-", 5, (2, 3)),
    "steps": ("rates: [30, 90], each: 1s", "steps30-90-1s-constant", 120, (30, 90)),
    "spike": (
        "base: 20, peak: 80, at: 1s, for: 500ms, over: 2s",
        "spike20-80-at1s-for0.5s-2s-constant",
        70,
        (20, 50),
    ),
    "burst": (
        "rate: 60, on: 500ms, off: 500ms, for: 2s",
        "burst60-on0.5s-off0.5s-2s-constant",
        60,
        (30, 30),
    ),
}


def was_late(trial: TrialRecord) -> bool:
    """Whether a shape was given up with answers outstanding, as where this machine stands still."""
    assert trial.shape_start_ns is not None
    assert trial.window_end_ns is not None
    took_ns = trial.window_end_ns - trial.shape_start_ns
    return took_ns >= trial.point.load.duration_s * 1e9 + TAIL_NS


@pytest.mark.parametrize(
    "shape",
    [
        "ramp",
        "replay",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("steps", "spike", "burst")),
    ],
)
def test_a_shape_is_sent_whole_and_ends_the_test(
    start: Start,
    tmp_path: Path,
    shape: str,
) -> None:
    keys, key, due, rates = SHAPES[shape]
    gaps = "" if shape == "replay" else ", arrivals: constant"
    load = f"{{kind: {shape}, {keys}{gaps}}}"
    (tmp_path / "log.csv").write_text("time_s\n0.4\n1\n3\n3\n4\n")
    for number in range(3):
        run_dir = tmp_path / f"run{number}"
        options = ["--headless", "--model", "identity", "--load", load, "--run-dir", run_dir]
        assert start("load_shape.py", *options).wait(END_S) == 0, said(tmp_path)
        run = open_run(run_dir)
        (trial,) = run.trials()
        assert trial.failure is None
        if not was_late(trial):
            break
    assert trial.point.load.key.startswith(key)
    assert trial.shape_start_ns is not None
    samples = run.samples(1).to_pandas()
    assert len(samples) == due
    assert set(samples["outcome"]) == {Outcome.OK}
    due_s = (samples["scheduled_ns"].to_numpy() - trial.shape_start_ns) / 1e9
    halves = np.histogram(due_s, [0, 1 + 1e-9, 2 + 1e-9])[0]
    np.testing.assert_allclose(halves, rates, atol=1)


def test_a_shape_that_is_left_before_its_end_is_broken_not_overloaded(
    start: Start, server: Server, harness: Callable[..., object], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    load = "{kind: ramp, from: 50, to: 500, over: 1h, arrivals: constant}"
    process = start(
        *("load_shape.py", "--headless", "--model", "identity", "--load", load),
        *("--run-dir", run_dir),
    )
    wait_until(lambda: "All users spawned" in said(tmp_path), END_S, "users")
    send_more(server, 100)
    process.send_signal(signal.SIGINT)
    assert process.wait(END_S) == 0, said(tmp_path)
    run = open_run(run_dir)
    (trial,) = run.trials()
    assert trial.failure == "the shape was left before its end"
    assert trial.failure_ns is not None
    assert len(run.samples(1)) > 50
    (result,) = analyse(run).results
    assert result.verdict is Verdict.TRIAL_FAILED
    assert "left before its end" in result.reasons[0]
    assert not any("overloaded" in reason for reason in result.reasons)
    harness("report", run_dir)


def listening(pid: int) -> set[str]:
    """The addresses that a process listens at."""
    sockets = psutil.Process(pid).net_connections("tcp")
    return {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}


@pytest.mark.long
@pytest.mark.parametrize("patience_s", ["1.0", "0"])
def test_many_load_generators_are_locusts_own_distributed_mode(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience_s: str
) -> None:
    # For which the master waits for its workers' users, before it says that all of them run.
    monkeypatch.setenv("LOCUST_WAIT_FOR_WORKERS_REPORT_AFTER_RAMP_UP", patience_s)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    model = ("--model", "identity")
    master = start(
        *("closed_loop.py", *model, "--master", "--headless", "--expect-workers", 2, "--users", 6),
        *("--spawn-rate", 6, "--run-time", "8s", "--master-bind-port", port),
    )
    workers = [
        start("closed_loop.py", *model, "--worker", "--master-port", port, log=f"worker{n}.log")
        for n in range(2)
    ]
    wait_until(lambda: listens(port), END_S, "the master")
    assert listening(master.pid) == {"127.0.0.1"}
    assert master.wait(END_S) == 0, said(tmp_path)
    for number, worker in enumerate(workers):
        assert worker.wait(END_S) == 0
        text = (tmp_path / f"worker{number}.log").read_text()
        assert "HTTP, client batch 1, c3: " in text, text
    total = re.findall(r"Aggregated\s+(\d+)\s+(\d+)\(", said(tmp_path))[-1]
    assert int(total[0]) > 50
    assert int(total[1]) == 0


def test_an_open_loop_needs_a_rate(start: Start, tmp_path: Path) -> None:
    assert start("open_loop.py", "--headless", "--rate", "0").wait(END_S) == 2
    assert "'0': expected a number above 0" in said(tmp_path)


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ("{kind: ramp, from: 0, to: 9, over: 1s}", "from: input should be greater than 0"),
        ("{kind: replay, file: absent.csv}", "the replay absent.csv cannot be read"),
        ("{kind: closed, concurrency: 3}", "a closed loop is no shape"),
    ],
)
def test_a_load_that_is_none_is_said_at_once(
    start: Start, tmp_path: Path, load: str, words: str
) -> None:
    assert (
        start("load_shape.py", "--headless", "--model", "identity", "--load", load).wait(END_S) == 2
    )
    assert words in said(tmp_path)
    assert "Traceback" not in said(tmp_path)


def test_wrong_answers_are_failures_in_locust_too(
    start: Start, reference: Path, tmp_path: Path
) -> None:
    options = ["--headless", "--model", "wrong", "--reference", reference, "--run-time", "5s"]
    assert start("closed_loop.py", *options).wait(END_S) == 1, "Locust's code for failures"
    total = re.findall(r"Aggregated\s+(\d+)\s+(\d+)\(", said(tmp_path))[-1]
    assert int(total[0]) == int(total[1]) > 10
    assert "away from the reference" in said(tmp_path)


class Web:
    """Locust's web interface, as its page uses it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.options = ("--web-host", "127.0.0.1", "--web-port", self.port)

    def _ask(self, path: str, data: bytes | None) -> dict[str, object]:
        url = f"http://127.0.0.1:{self.port}/{path}"
        with urllib.request.urlopen(url, data=data, timeout=END_S) as answer:
            found: dict[str, object] = json.load(answer)
            return found

    def post(self, path: str, **form: object) -> dict[str, object]:
        return self._ask(path, urllib.parse.urlencode(form).encode())

    def state(self) -> dict[str, object]:
        return self._ask("stats/requests", None)

    def is_up(self) -> bool:
        try:
            return bool(self.state())
        except OSError:
            return False


def test_the_web_interface_starts_and_stops_levels(
    start: Start, server: Server, tmp_path: Path
) -> None:
    web, run_dir = Web(), tmp_path / "run"
    process = start("closed_loop.py", "--model", "identity", "--run-dir", run_dir, *web.options)
    wait_until(web.is_up, END_S, "the web interface")
    for users in (4, 2):
        assert web.post("swarm", user_count=users, spawn_rate=users)["success"]
        wait_until(lambda count=users: web.state()["user_count"] == count, END_S, f"{users} users")
        send_for(server, MEASURED_S)
    assert web.post("stop")["success"]
    process.send_signal(signal.SIGINT)
    assert process.wait(END_S) == 0, said(tmp_path)
    trials = open_run(run_dir).trials()
    assert [trial.point.load.concurrency for trial in trials] == [4, 2]
    assert all(trial.failure is None for trial in trials)
    for trial in trials:
        outcomes = open_run(run_dir).samples(trial.index)["outcome"].to_numpy()
        assert set(outcomes) == {Outcome.OK}, "a user was killed"


def test_the_web_interface_sends_a_shape_as_often_as_wanted(
    start: Start, server: Server, tmp_path: Path
) -> None:
    web, run_dir = Web(), tmp_path / "run"
    load = "{kind: ramp, from: 20, to: 60, over: 500ms, arrivals: constant, max_in_flight: %d}"
    process = start(
        *("load_shape.py", "--model", "identity", "--run-dir", run_dir, "--host", ""),
        *("--load", load % 4, *web.options),
    )
    wait_until(web.is_up, END_S, "the web interface")
    host = f"http://{server.endpoints.http}"

    def times(words: str) -> int:
        return said(tmp_path).count(words)

    def swarm(load: str) -> None:
        before = times("Shape test starting")

        def begins() -> bool:  # not while Locust is still stopping the one before
            assert web.post("swarm", host=host, load=load)["success"]
            return times("Shape test starting") > before

        wait_until(begins, END_S, "a start")

    for ended, cap in enumerate((4, 4, 6), 1):
        swarm(load % cap)
        wait_until(lambda n=ended: times("requests failed") == n, END_S, "the end of the shape")
    swarm("{kind: ramp}")
    wait_until(lambda: times("from is missing"), END_S, "what is wrong with the load")
    swarm(load.replace("500ms", "1h") % 4)
    wait_until(lambda: times("All users spawned") == 4, END_S, "users")
    send_more(server, 20)
    assert web.post("stop")["success"]
    swarm(load % 4)
    wait_until(lambda: times("requests failed") == 5, END_S, "the end of the shape")
    process.send_signal(signal.SIGINT)
    assert process.wait(END_S) == 0, said(tmp_path)
    trials = open_run(run_dir).trials()
    left = "the shape was left before its end"
    assert [trial.failure for trial in trials] == [None, None, None, left, None]
    assert [trial.point.load.max_in_flight for trial in trials] == [4, 4, 6, 4, 4]
    in_time = [trial for trial in trials if trial.failure is None and not was_late(trial)]
    assert in_time
    assert {len(open_run(run_dir).samples(trial.index)) for trial in in_time} == {20}
    assert "Traceback" not in said(tmp_path)


class Page(Web):
    """The web interface of a Locust file, and what a user does there."""

    def __init__(
        self, start: Start, server: Server, folder: Path, file: str, *arguments: object
    ) -> None:
        super().__init__()
        self.server = server
        self.folder = folder
        self.process = start(file, "--host", "", *arguments, *self.options)
        wait_until(self.is_up, END_S, "the web interface")

    def fields(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=END_S) as answer:
            text: str = answer.read().decode()
        return text

    def _start(self, asked: dict[str, object]) -> None:
        form = {"user_count": 2, "spawn_rate": 2, **asked}
        assert self.post("swarm", **form)["success"]  # which Locust says before it asks us

    def _stopped(self) -> bool:
        return self.state()["state"] == "stopped"

    def level(self, **asked: object) -> None:
        """Send for a while."""
        self._start(asked)
        wait_until(lambda: self.state()["user_count"] == 2, END_S, "users")
        send_for(self.server, MEASURED_S)
        assert self.post("stop")["success"]
        wait_until(self._stopped, END_S, "the end")

    def _begun(self) -> int:
        return sum(said(self.folder).count(s) for s in ("Ramping to", "Shape test stopping"))

    def refused(self, words: str, **asked: object) -> None:
        """Ask for what cannot be sent."""
        before, begun = said(self.folder).count(words), self._begun()
        self._start(asked)
        wait_until(lambda: said(self.folder).count(words) > before, END_S, words)
        # Locust goes on with a start that was refused, and only then is stopped.
        wait_until(lambda: self._begun() > begun, END_S, "a start")
        wait_until(self._stopped, END_S, "the end")

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(END_S) == 0, said(self.folder)
        assert "Traceback" not in said(self.folder)


@pytest.mark.long
def test_what_the_web_interface_asks_for_is_what_is_sent(
    start: Start, server: Server, tmp_path: Path
) -> None:
    """Another model, batch, protocol or folder before each start; nothing where that cannot be sent."""
    page = Page(start, server, tmp_path, "closed_loop.py", "--model", "absent")
    for field in ("model", "batch_size", "protocol", "reference", "run_dir"):
        assert f'"{field}"' in page.fields()
    first, second = tmp_path / "first", tmp_path / "second"
    page.refused("is no host that can be loaded", host="http://[::1:8000")
    page.refused("Request for unknown model", host=f"http://{server.endpoints.http}")
    page.level(model="identity", run_dir=first)
    page.level(batch_size=2, protocol="grpc")
    page.refused("'0': expected a whole number from 1 on", batch_size=0)
    page.refused("of another server, model, reference", batch_size=1, model="wrong")
    page.refused("is there already", run_dir=tmp_path)
    page.level(run_dir=first, model="identity")
    page.level(run_dir=second, model="wrong", protocol="http")
    page.level(run_dir="", batch_size=3)
    page.end()
    assert said(tmp_path).count("HTTP, client batch 3, c2: ") == 1
    points = [[trial.point for trial in open_run(folder).trials()] for folder in (first, second)]
    found = [[(p.configuration.model, p.workload.key) for p in run] for run in points]
    sent = [("identity", "http-b1"), ("identity", "grpc-b2"), ("identity", "grpc-b1")]
    assert found == [sent, [("wrong", "http-b1")]]
    assert {open_run(folder).record().status for folder in (first, second)} == {"complete"}
    samples = [open_run(first).samples(index).to_pandas() for index in (1, 2, 3)]
    assert [set(each["batch"]) for each in samples] == [{1}, {2}, {1}]
    assert all(set(each["outcome"]) == {Outcome.OK} for each in samples)


@pytest.mark.long
def test_a_rate_or_a_step_that_is_none_ends_that_test_alone(
    start: Start, server: Server, tmp_path: Path
) -> None:
    host = f"http://{server.endpoints.http}"
    page = Page(start, server, tmp_path, "open_loop.py", "--model", "identity")
    page.level(host=host, rate=99.5)
    page.refused("'0.0': expected a number above 0", rate=0)
    page.refused("'nan': expected a number above 0", rate="nan")
    page.level(rate=50)
    page.end()
    assert re.findall(r"batch 1, (\S+):", said(tmp_path)) == ["poisson99.5-cap2", "poisson50-cap2"]
    page = Page(
        start, server, tmp_path, "step_concurrency.py", "--model", "identity", "--steps", "2,1"
    )
    page.refused("'0.0': expected a number above 0", host=host, step_time=0)
    page.refused("'0': expected a whole number from 1 on", step_time=2, steps="2,0")
    page.refused("'-1': expected a whole number from 1 on", steps="2,-1")
    page.level(steps="2,1", step_time=30)
    page.end()


@pytest.mark.parametrize("file", ["closed_loop.py", "load_shape.py", "step_concurrency.py"])
def test_without_a_host_it_ends_at_once(start: Start, tmp_path: Path, file: str) -> None:
    asked = ["--host", "", "--headless", "--model", "identity"]
    assert start(file, *asked).wait(END_S) == 2
    assert "'' is no host that can be loaded" in said(tmp_path)
    assert "Traceback" not in said(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--model", "absent"], "Request for unknown model", 3),
        (["--model", "identity", "--host", "http://127.0.0.1:1"], "refused", 3),
        (["--model", "identity", "--host", "https://127.0.0.1:1"], "no host that can be", 2),
        (["--model", "identity", "--host", "127.0.0.1:99999"], "no host that can be", 2),
        (["--model", "identity", "--reference", "absent.npz"], "no such file", 2),
        (["--model", "identity", "--run-dir", "."], "is there already", 2),
        (
            ["--model", "identity", "--protocol", "grpc", "--grpc-host", "127.0.0.1:1"],
            "offers no gRPC there",
            3,
        ),
        (["--batch-size", "0"], "'0': expected a whole number from 1 on", 2),
        (["--model", "identity", "--batch-size", "999"], "999 is above the 64 that identity", 2),
        (["--request-timeout", "-1"], "expected a number above 0", 2),
        (["--seed", "-1"], "'-1': expected a whole number from 0 on", 2),
        (
            ["--model", "identity", "--protocol", "grpc", "--grpc-host", "a..b:99999"],
            "offers no gRPC there",
            3,
        ),
    ],
)
def test_what_cannot_work_is_said_at_once(
    start: Start,
    tmp_path: Path,
    arguments: list[str],
    words: str,
    code: int,
) -> None:
    process = start("closed_loop.py", "--headless", "--run-time", "2s", *arguments)
    assert process.wait(END_S) == code
    assert words in said(tmp_path)
    assert "Traceback" not in said(tmp_path)


LIST_OPTIONS = """
from harness.load.byhand.options import add_options
import argparse
parser = argparse.ArgumentParser(add_help=False)
add_options(parser)
print(*(action.option_strings[0] for action in parser._actions))
"""


def test_the_options_are_explained() -> None:
    """Locust answers --help before it has read the file, so they stand in the file itself."""
    command = [sys.executable, "-c", LIST_OPTIONS]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    text = (ROOT / "scenarios" / "closed_loop.py").read_text()
    options = listed.stdout.split()
    assert len(options) > 8
    assert not [option for option in options if f"    {option} " not in text]
