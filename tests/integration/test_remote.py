"""A server that somebody else runs: measured, and left exactly as it was. Real Triton, real Locust, nginx."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.access import Access
from harness.archive import open_run
from harness.attachment import attach
from harness.errors import EnvironmentFailedError, HarnessError, UsageError
from harness.records import Outcome
from harness.reference import Reference, write_reference
from harness.scenario import parse_scenario
from harness.servers.ports import choose_ports
from tests.certificates import Certificates, make_certificates
from tests.footprint import wait_until
from tests.kserve import kserve
from tests.somebody import (
    ADMIN,
    MODELS,
    OWN_BATCHING,
    Session,
    Somebody,
    https_proxy,
    somebody,
    start_harness,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.attachment import Attachment
    from harness.records import RunRecord, TrialRecord

TOKEN = "t0ken-that-nobody-may-see"
SWEEP = "sweep: {instances: [1, 2], concurrency: [4]}\n"
BOTH = "sweep: {protocol: [http, grpc], concurrency: 4}\n"
GRPC = "sweep: {protocol: grpc, concurrency: 4}\n"
QUICK = "measure: {window: 300ms, passes: 2, sentinels: false}\n"
LONG = "measure: {window: 1500ms, passes: 4, sentinels: false}\n"
MODEL = "model: identity\n"
NOWHERE = Path("no-models-here")


@pytest.fixture(autouse=True)
def admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ADMIN", ADMIN)
    monkeypatch.setenv("TEST_TOKEN", TOKEN)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Somebody]:
    """A Triton that goes on through all of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_ADMIN", ADMIN)
        with somebody(tmp_path_factory.mktemp("somebody")) as triton:
            yield triton


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def asked(text: str) -> Attachment:
    """What is found out before anything is measured."""
    scenario = parse_scenario(MODEL + text + SWEEP, name="remote", where="remote.yaml")
    return attach(scenario, NOWHERE)


def archive(session: Session) -> tuple[RunRecord, list[TrialRecord], str]:
    """A finished run: its record, its trials, and the text of every file in it."""
    folder = next(session.reports.glob("*/run.json")).parent
    run = open_run(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    text = "\n".join(path.read_bytes().decode(errors="replace") for path in files)
    return run.record(), run.trials(), text


def test_a_sweep_goes_as_usual_and_leaves_the_server_as_it_was(
    owner: Somebody, tmp_path: Path
) -> None:
    before = owner.state()
    assert list(before) == ["identity"]
    session = start_harness(MODEL + owner.scenario() + SWEEP + QUICK, tmp_path)
    code, _, err = session.end()
    assert code in (0, 4), err
    assert owner.state() == before
    record, trials, text = archive(session)
    assert record.status == "complete"
    assert {trial.point.configuration.instances for trial in trials} == {1, 2}
    for trial in trials:
        assert trial.failure is None
        assert trial.differences == ()
        assert trial.effective is not None
        counts = [group["count"] for group in trial.effective["instance_group"]]
        assert counts == [trial.point.configuration.instances]
        assert trial.statistics is not None
        assert trial.statistics.success_count > 0
    # The probe came along with the load: nothing of the server's repository was touched.
    assert record.calibration is not None
    assert record.server["kind"] == "remote"
    assert "The server is run by somebody else" in record.notes[0]
    assert "telemetry missing" not in text
    assert ADMIN not in text
    assert "TEST_ADMIN" in text


def test_a_model_that_nobody_knows_is_refused(owner: Somebody) -> None:
    text = "model: 'null'\n" + owner.scenario() + "sweep: {concurrency: 2}\n"
    scenario = parse_scenario(text, name="remote", where="remote.yaml")
    with pytest.raises(UsageError, match="null is not loaded on the server, and was not exported"):
        attach(scenario, NOWHERE)


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("calibration", signal.SIGINT),
        pytest.param("calibration", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param("window", signal.SIGINT, marks=pytest.mark.long),
        pytest.param("window", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_an_interrupt_puts_the_configuration_back(
    owner: Somebody, tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    before = owner.state()
    session = start_harness(MODEL + owner.scenario() + SWEEP + LONG, tmp_path)
    try:
        if stage == "calibration":
            wait_until(owner.probed, 90, "the probe is there")
        else:
            wait_until(lambda: session.sealed() > 0, 60, "a trial is over")
            assert owner.state() != before
            time.sleep(0.7)
        session.signal(number)
        time.sleep(0.3)
        session.signal(number)  # an impatient user's second one comes to nothing
    finally:
        code, _, err = session.end()
    assert code == 130, err
    assert owner.state() == before
    assert not owner.probed()


@pytest.mark.long
def test_without_model_control_what_is_there_is_measured(owner: Somebody, tmp_path: Path) -> None:
    before = owner.state()
    text = MODEL + owner.scenario(admin=False) + BOTH
    session = start_harness(text + QUICK, tmp_path)
    code, _, err = session.end()
    assert code in (0, 4), err
    assert "Its models cannot be configured (This protocol is restricted" in err
    assert owner.state() == before
    record, trials, _ = archive(session)
    assert [trial.failure for trial in trials] == [None] * 4
    assert {trial.point.configuration.label for trial in trials} == {"1 instance, delay 321 µs"}
    assert all(trial.effective == before["identity"] for trial in trials)
    assert "cannot be configured" in record.notes[0]
    assert record.calibration is None


@pytest.mark.parametrize("axis", ["instances: [1, 2]", "dynamic_batching: null", "instances: 2"])
def test_what_cannot_be_set_is_refused(owner: Somebody, axis: str) -> None:
    text = f"{MODEL}{owner.scenario(admin=False)}sweep: {{{axis}, concurrency: 1}}\n"
    scenario = parse_scenario(text, name="remote", where="remote.yaml")
    with pytest.raises(UsageError, match="does not let the model identity be configured") as caught:
        attach(scenario, NOWHERE)
    assert caught.value.where == f"scenario remote, sweep.{axis.partition(':')[0]}"
    assert "what is there is measured" in str(caught.value)


def test_what_is_there_already_may_be_asked_for(owner: Somebody) -> None:
    text = f"{MODEL}{owner.scenario(admin=False)}sweep: {{instances: 1, concurrency: 1}}\n"
    found = attach(parse_scenario(text, name="remote", where="remote.yaml"), NOWHERE)
    assert found.fixed["identity"].instances == 1


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"http_port": "FREE"}, EnvironmentFailedError, "nobody listens there"),
        ({"grpc_port": "FREE"}, EnvironmentFailedError, "nobody listens there"),
        ({"host": "no-such-host.invalid"}, EnvironmentFailedError, "there is no such host"),
        ({"token_env": "NOT_SET_AT_ALL"}, UsageError, "NOT_SET_AT_ALL, which holds the token"),
        ({"tls": "{ca: no-such-file.pem}"}, UsageError, "certificates to trust cannot be used"),
        ({"tls": "{grpc: false}"}, EnvironmentFailedError, "the port does not speak TLS"),
        ({"tls": "{http: false}"}, EnvironmentFailedError, "the port does not speak TLS"),
    ],
)
def test_a_server_that_cannot_be_reached_is_told_in_one_sentence(
    owner: Somebody, change: dict[str, str], kind: type[HarnessError], said: str
) -> None:
    free = str(choose_ports({"free": 0})["free"])
    words = {key: value.replace("FREE", free) for key, value in change.items()}
    with pytest.raises(kind) as caught:
        asked(owner.scenario(**words))
    assert said in str(caught.value)
    assert caught.value.exit_code == (3 if kind is EnvironmentFailedError else 2)


def exported(root: Path, name: str) -> Path:
    """A model repository with a test's model, as ``harness export`` would have left it."""
    shutil.copytree(MODELS / "null", root / name)
    config = root / name / "config.pbtxt"
    config.write_text(config.read_text().replace('"null"', f'"{name}"'))
    (root / name / "export.json").write_text('{"schema_version": 1}')
    inputs = np.random.default_rng(7).random((64, 1), dtype=np.float32)
    right = Reference({"X": inputs}, {"Y": np.zeros_like(inputs)})
    write_reference(root / name / "reference.npz", right)
    return root


@pytest.mark.long
def test_a_model_that_was_not_loaded_is_unloaded_and_its_answers_are_compared(
    owner: Somebody, tmp_path: Path
) -> None:
    before = owner.state()
    models = exported(tmp_path / "models", "null")
    text = "model: ['null']\n" + owner.scenario() + "sweep: {concurrency: 2}\n"
    session = start_harness(text + QUICK, tmp_path, "--models", str(models))
    code, _, err = session.end()
    assert code in (0, 4), err
    assert owner.state() == before
    record, trials, _ = archive(session)
    assert [trial.failure for trial in trials] == [None, None]
    assert "no right answers" not in record.notes[0]
    run = open_run(next(session.reports.glob("*/run.json")).parent)
    samples = run.samples(trials[0].index).to_pandas()
    assert samples["compared"].any()
    assert (samples["outcome"] == Outcome.OK).all()


def test_a_model_that_does_not_load_ends_the_run_and_leaves_nothing(
    owner: Somebody, tmp_path: Path
) -> None:
    before = owner.state()
    models = exported(tmp_path / "models", "broken")
    text = "model: broken\n" + owner.scenario() + "sweep: {concurrency: 2}\n"
    session = start_harness(text + QUICK, tmp_path, "--models", str(models))
    code, _, err = session.end()
    assert code == 3, err
    assert "loading broken: " in err
    assert "no module named nosuchlibrary" in err
    assert "Traceback" not in err
    assert owner.state() == before


@pytest.mark.long
@pytest.mark.parametrize("metrics", [True, False])
def test_a_gpu_that_is_not_there_is_told(owner: Somebody, tmp_path: Path, metrics: bool) -> None:
    before = owner.state()
    ports = {"metrics_port": owner.server.endpoints.metrics_port} if metrics else {}
    sweep = "sweep: {kind: gpu, concurrency: 2}\n"
    session = start_harness(MODEL + owner.scenario(**ports) + sweep + QUICK, tmp_path)
    code, _, err = session.end()
    assert code == 3, err
    assert ("has no GPU" in err) if metrics else ("no configuration can be served" in err)
    assert owner.state() == before


@pytest.fixture(scope="module")
def ports(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, int]]:
    made = certificates
    arguments = (
        "--grpc-use-ssl=1",
        "--grpc-use-ssl-mutual=1",
        f"--grpc-server-cert={made.server.certificate}",
        f"--grpc-server-key={made.server.key}",
        f"--grpc-root-cert={made.ca.certificate}",
    )
    pair = (str(made.client.certificate), str(made.client.key))
    access = Access(False, True, str(made.ca.certificate), *pair)
    folder = tmp_path_factory.mktemp("tls")
    with somebody(folder, extra_args=arguments, access=access) as triton:
        at = triton.server.endpoints
        with https_proxy(folder, at.http_port, made, TOKEN) as ports:
            yield {**ports, "grpc": at.grpc_port or 0, "plain": at.http_port}


class TestTls:
    """HTTPS through nginx, with a bearer token and a client's certificate; gRPC with Triton's own TLS."""

    @staticmethod
    def scenario(ports: dict[str, int], made: Certificates, *, ca: str = "", **change: str) -> str:
        files = f"ca: {ca or made.ca.certificate}"
        own = f"certificate: {made.client.certificate}, key: {made.client.key}"
        words = {
            "kind": "remote",
            "host": "localhost",
            "http_port": str(ports["good"]),
            "grpc_port": str(ports["grpc"]),
            "tls": f"{{{files}, {own}}}",
            "token_env": "TEST_TOKEN",
        } | change
        return f"server: {{{', '.join(f'{key}: {value}' for key, value in words.items())}}}\n"

    @pytest.mark.parametrize(
        ("sender", "sweep"),
        [("raw", BOTH), pytest.param("tritonclient", GRPC, marks=pytest.mark.long)],
    )
    def test_a_run_over_tls_with_a_token(
        self,
        ports: dict[str, int],
        certificates: Certificates,
        tmp_path: Path,
        sender: str,
        sweep: str,
    ) -> None:
        text = MODEL + self.scenario(ports, certificates) + sweep
        measure = QUICK.replace("sentinels", f"sender: {sender}, sentinels")
        session = start_harness(text + measure, tmp_path, environment={"TEST_TOKEN": TOKEN})
        wait_until(lambda: session.sealed() or session.process.poll() is not None, 60)
        session.note()
        words = "".join(map(command_line, session.seen))
        code, out, err = session.end()
        assert code in (0, 4), err
        _, trials, archived = archive(session)
        protocols = {"http", "grpc"} if sender == "raw" else {"grpc"}
        assert {trial.point.workload.protocol for trial in trials} == protocols
        assert [trial.failure for trial in trials] == [None] * len(trials)
        assert all(t.statistics and t.statistics.success_count > 0 for t in trials)
        assert "harness.load.process" in words
        assert TOKEN not in archived + out + err + words

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"ca": "OTHER"}, "its certificate is not accepted"),
            ({"http_port": "expired"}, "certificate has expired"),
            ({"http_port": "elsewhere"}, "is not valid for 'localhost'"),
            ({"http_port": "plain"}, "the port does not speak TLS"),
            ({"token_env": "WRONG_TOKEN"}, "HTTP 401"),
            ({"tls": "{ca: CA}"}, "No required SSL certificate was sent"),
            ({"tls": "{ca: CA, grpc: false, certificate: OWN, key: KEY}"}, "server metadata"),
        ],
    )
    def test_what_is_wrong_with_tls_is_said_in_one_sentence(
        self,
        ports: dict[str, int],
        certificates: Certificates,
        change: dict[str, str],
        said: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        made = certificates
        monkeypatch.setenv("WRONG_TOKEN", "not-the-right-one")
        names = {
            "OTHER": str(made.other_ca.certificate),
            "CA": str(made.ca.certificate),
            "OWN": str(made.client.certificate),
            "KEY": str(made.client.key),
        }
        change = {key: str(ports.get(value, value)) for key, value in change.items()}
        for old, new in names.items():
            change = {key: value.replace(old, new) for key, value in change.items()}
        with pytest.raises(EnvironmentFailedError) as caught:
            asked(self.scenario(ports, made, **change))
        assert said in str(caught.value)
        assert TOKEN not in str(caught.value)

    def test_a_run_that_cannot_begin_exits_with_3(
        self, ports: dict[str, int], certificates: Certificates, tmp_path: Path
    ) -> None:
        text = self.scenario(ports, certificates, http_port=str(ports["expired"]))
        session = start_harness(MODEL + text + SWEEP, tmp_path, "--dry-run")
        code, out, err = session.end()
        assert code == 3
        assert "Traceback" not in out + err
        assert "certificate has expired" in err


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.long
class TestFaults:
    """A server of its own for each, since it does not live through the test."""

    @pytest.mark.parametrize("fault", ["killed", "frozen"])
    def test_the_run_goes_on_when_the_server_is_back(self, tmp_path: Path, fault: str) -> None:
        ports = choose_ports({"http": 0, "grpc": 0, "metrics": 0})
        with somebody(tmp_path, ports=ports) as triton:
            text = MODEL + triton.scenario(ready_timeout="60s")
            session = start_harness(text + SWEEP + LONG.replace("4", "2"), tmp_path)
            wait_until(lambda: session.sealed() > 0, 60, "a trial is over")
            time.sleep(0.5)
            os.kill(triton.pid, signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
            if fault == "frozen":
                time.sleep(3)
                os.kill(triton.pid, signal.SIGCONT)
                code, _, err = session.end(timeout_s=120)
                self.check(session, code, err, fault)
                assert triton.state()["identity"]["dynamic_batching"] == OWN_BATCHING
                return
        time.sleep(1)
        with somebody(tmp_path, ports=ports, loaded=False) as triton:
            code, _, err = session.end(timeout_s=120)
            self.check(session, code, err, fault)
            assert triton.state()["identity"]["dynamic_batching"] == OWN_BATCHING

    @staticmethod
    def check(session: Session, code: int, err: str, fault: str) -> None:
        assert code in (0, 4), err
        record, trials, _ = archive(session)
        assert record.status == "complete"
        broken = [trial for trial in trials if trial.failure]
        if fault == "killed":
            assert broken
        for trial in broken:
            again = [
                other
                for other in trials
                if other.index > trial.index
                and (other.point, other.pass_index) == (trial.point, trial.pass_index)
            ]
            assert again, trial.failure
        done = {(t.point.key, t.pass_index) for t in trials if not t.failure}
        assert len(done) == 4

    @pytest.mark.parametrize("fault", ["killed", "frozen"])
    def test_a_server_that_stays_away_ends_the_run_and_what_was_measured_is_kept(
        self, tmp_path: Path, fault: str
    ) -> None:
        with somebody(tmp_path) as triton:
            text = MODEL + triton.scenario(ready_timeout="3s")
            session = start_harness(text + SWEEP + LONG, tmp_path)
            wait_until(lambda: session.sealed() > 0, 60, "a trial is over")
            pid = triton.pid
            os.kill(pid, signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
            try:
                code, out, err = session.end(timeout_s=120)
            finally:
                if fault == "frozen":
                    os.kill(pid, signal.SIGCONT)
        assert code == 3, err
        said = " ".join(err.split())
        assert "the server did not answer within 3 s" in said
        assert "it does not answer, so nothing was put back of identity" in said
        assert "index.html" in out
        record, trials, _ = archive(session)
        assert record.status == "failed"
        assert [trial for trial in trials if not trial.failure]


class TestNotTriton:
    """A server of KServe v2 that has nothing but inference."""

    def run(self, port: int, tmp_path: Path) -> Session:
        text = f"model: echo\nserver: {{kind: remote, host: 127.0.0.1, http_port: {port}}}\n"
        sweep = "sweep: {batch_size: [1, 4], concurrency: [2]}\n"
        return start_harness(text + sweep + QUICK.replace("2", "3"), tmp_path)

    def test_it_is_measured_and_what_it_does_not_say_is_empty(self, tmp_path: Path) -> None:
        with kserve() as port:
            session = self.run(port, tmp_path)
            code, _, err = session.end()
        assert code in (0, 4), err
        record, trials, text = archive(session)
        assert [trial.failure for trial in trials] == [None] * 6
        assert all(trial.statistics is None for trial in trials)
        assert {trial.point.configuration.label for trial in trials} == {"as the server has it"}
        assert len(record.notes) == 1
        assert record.calibration is None
        with next(session.reports.glob("*/summary.csv")).open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 2
        for row in rows:
            assert float(row["throughput"]) > 0
            for column in ("instances", "queue_ms", "executed_batch_mean", "server_cpu_cores"):
                assert row[column] == ""
        assert "whether client and server count the same requests" in record.notes[0]
        assert "telemetry missing" not in text
        assert "trial failed" not in text

    @pytest.mark.long
    @pytest.mark.parametrize("nonsense", [False, True])
    def test_no_word_of_a_hostile_server_becomes_a_part_of_the_page(
        self, tmp_path: Path, nonsense: bool
    ) -> None:
        script = "<script>alert(1)</script>"
        offered = (*["statistics"] * nonsense, script * 1000, *[script] * 1000)
        stats = {"model_stats": [{"name": script, "inference_count": "18446744073709551615"}]}
        with kserve(name=script, version=script * 100, extensions=offered, stats=stats) as port:
            session = self.run(port, tmp_path)
            code, _, err = session.end()
        page = next(session.reports.glob("*/index.html")).read_text()
        assert script not in page
        if nonsense:
            assert code in (3, 4), err
            assert "make no sense" in page
        else:
            assert code in (0, 4), err
            assert "alert(1)" in page  # it is shown, as text
        size = sum(file.stat().st_size for file in session.reports.rglob("*") if file.is_file())
        assert size < 2e6


def test_a_server_that_answers_without_end_is_left(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        threading.Thread(target=pour, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        with pytest.raises(EnvironmentFailedError, match="too large"):
            asked(f"server: {{kind: remote, host: 127.0.0.1, http_port: {port}}}\n")


def pour(listener: socket.socket) -> None:
    """Answer with a body that never ends."""
    while True:
        try:
            with listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except OSError:
            if listener.fileno() < 0:
                return
