"""A server that somebody else runs: measured, and left exactly as it was. Real Triton, real Locust."""

from __future__ import annotations

import csv
import json
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from harness.archive import open_run
from harness.errors import EnvironmentFailedError, HarnessError, UsageError
from harness.records import Outcome
from harness.servers.ports import choose_ports
from tests.footprint import wait_until
from tests.kserve import kserve
from tests.somebody import ADMIN, Somebody
from tests.visits import LONG, MODEL, QUICK, SWEEP, Session, archive, asked, exported, start_harness

if TYPE_CHECKING:
    from pathlib import Path

BOTH = "sweep: {protocol: [http, grpc], concurrency: 4}\n"


def page_of(session: Session) -> str:
    return next(session.reports.glob("*/index.html")).read_text()


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
    assert record.notes[0].replace("'", "&#39;") in page_of(session)
    assert "telemetry missing" not in text
    assert ADMIN not in text
    assert "TEST_ADMIN" in text


def test_a_model_that_nobody_knows_is_refused(owner: Somebody) -> None:
    text = "model: 'null'\n" + owner.scenario() + "sweep: {concurrency: 2}\n"
    with pytest.raises(UsageError, match="null is not loaded on the server, and was not exported"):
        asked(text)


def test_an_interrupt_puts_the_configuration_back(owner: Somebody, tmp_path: Path) -> None:
    before = owner.state()
    session = start_harness(MODEL + owner.scenario() + SWEEP + LONG, tmp_path)
    try:
        wait_until(owner.probed, 90, "the probe is there")
        session.signal(signal.SIGINT)
        time.sleep(0.3)
        session.signal(signal.SIGINT)  # an impatient user's second one comes to nothing
    finally:
        code, _, err = session.end()
    assert code == 130, err
    assert owner.state() == before


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
    with pytest.raises(UsageError, match="does not let the model identity be configured") as caught:
        asked(text)
    assert caught.value.where == f"scenario remote, sweep.{axis.partition(':')[0]}"
    assert "what is there is measured" in str(caught.value)


def test_what_is_there_already_may_be_asked_for(owner: Somebody) -> None:
    text = f"{MODEL}{owner.scenario(admin=False)}sweep: {{instances: 1, concurrency: 1}}\n"
    found = asked(text)
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
        asked(MODEL + owner.scenario(**words) + SWEEP)
    assert said in str(caught.value)
    assert caught.value.exit_code == (3 if kind is EnvironmentFailedError else 2)


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


class TestNotTriton:
    """A server of KServe v2 that has nothing but inference."""

    def run(self, port: int, tmp_path: Path, measure: str = QUICK.replace("2", "3")) -> Session:
        text = f"model: echo\nserver: {{kind: remote, host: 127.0.0.1, http_port: {port}}}\n"
        sweep = "sweep: {batch_size: [1, 4], concurrency: [2]}\n"
        return start_harness(text + sweep + measure, tmp_path)

    @pytest.mark.long
    def test_a_trial_that_breaks_twice_is_no_configuration_that_cannot_be_served(
        self, tmp_path: Path
    ) -> None:
        """It has but one, which nobody set: it is silent for a while, and again, and the run goes on."""
        silent, inferred = threading.Event(), list[str]()
        measure = (
            # Silence is noticed after 4 s, and must begin so long before the window ends.
            "measure: {window: 12s, warmup_max: 500ms, passes: 1, sentinels: false,"
            " request_timeout: 5s}\n"
        )

        def broken() -> int:
            sealed = [path.read_text() for path in session.reports.glob("*/trials/*/trial.json")]
            return sum(json.loads(text)["failure"] is not None for text in sealed)

        with kserve(silent=silent, inferred=inferred) as port:
            session = self.run(port, tmp_path, measure)
            for times in (1, 2):
                before = len(inferred)
                wait_until(lambda n=before: len(inferred) > n + 100, 60, "load")
                silent.set()
                wait_until(lambda n=times: broken() == n, 60, "a trial that broke")
                first = session.generators()
                silent.clear()
                wait_until(lambda g=first: session.generators() - g, 60, "another generator")
            code, _, err = session.end(timeout_s=120)
        assert code in (0, 4), err
        record, trials, _ = archive(session)
        assert record.status == "complete"
        first, again, other = trials
        assert first.point == again.point != other.point
        assert [trial.failure is None for trial in trials] == [False, False, True]

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
        assert record.notes[0].replace("'", "&#39;") in page_of(session)
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
            asked(f"{MODEL}server: {{kind: remote, host: 127.0.0.1, http_port: {port}}}\n{SWEEP}")


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
