"""Whatever befalls a run on somebody else's server: that is as before, and nothing of the run is left."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton

from harness.errors import EnvironmentFailedError
from harness.servers.ports import choose_ports
from tests.commands import assert_noticed
from tests.footprint import freeze, wait_until
from tests.relay import relay
from tests.somebody import ADMIN, OWN_BATCHING, Somebody, somebody
from tests.visits import LONG, MODEL, QUICK, SWEEP, Session, archive, exported, start_harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.records import TrialRecord

pytestmark = pytest.mark.long

# One instance: see OWN_BATCHING.
ONE = "sweep: {instances: 1, dynamic_batching: null, concurrency: 4}\n"
# Before the report no trial may come to its end while one strikes.
WARMING_UP = "window: 1s, warmup_min: 60s, warmup_max: 90s"
MEASURES = {"window": "window: 90s, warmup_max: 300ms", "report": "window: 300ms"}


@pytest.fixture(autouse=True)
def admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ADMIN", ADMIN)


@contextmanager
def left_as_it_was(owner: Somebody) -> Iterator[dict[str, Any]]:
    """Fail where a server is not as it was when the block ends."""
    state = owner.state()
    # Stubs of a configuration that has gone linger for seconds.
    wait_until(lambda: owner.holdings()[0] == len(state), 60, "one stub for each model")
    holdings = owner.holdings()
    yield state
    assert owner.state() == state
    wait_until(lambda: owner.holdings() == holdings, 60, "its stubs and regions are as they were")


def under_load(owner: Somebody, before: dict[str, Any]) -> bool:
    """Whether the model is configured as its owner had not done, and executes."""
    try:
        if owner.control.effective_configuration("identity") == before["identity"]:
            return False
        return owner.control.snapshot("identity").counts["inference_count"] > 0
    except EnvironmentFailedError:  # it is being loaded anew
        return False


def reach(stage: str, session: Session, owner: Somebody, before: dict[str, Any]) -> None:
    """Wait until a run is at a stage; warm-up and window must be long enough to be met."""
    conditions: dict[str, Callable[[], object]] = {
        "attaching": lambda: session.talks_to(owner.server.endpoints.http_port),
        "set-up": lambda: session.status() == "running",
        "start": lambda: "harness.load" in session.commands(),
        "warm-up": lambda: under_load(owner, before),
        "window": lambda: under_load(owner, before),
        "report": lambda: session.status() == "complete",
    }
    if stage == "report":
        wait_until(lambda: session.sealed() or session.process.poll() is not None, 120)
        # It must not be through with its report before its stage is seen here, on a busy machine either.
        psutil.Process(session.process.pid).nice(19)
    wait_until(lambda: conditions[stage]() or session.process.poll() is not None, 120, stage)
    assert session.process.poll() is None, f"it has ended before {stage}"
    if stage == "window":
        time.sleep(2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["set-up", "start", "warm-up", "window", "report"])
def test_an_interrupt_ends_a_run_in_order(
    owner: Somebody, tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    measure = f"measure: {{{MEASURES.get(stage, WARMING_UP)}, passes: 1, sentinels: false}}\n"
    with left_as_it_was(owner) as before:
        session = start_harness(MODEL + owner.scenario() + ONE + measure, tmp_path)
        try:
            reach(stage, session, owner, before)
            session.signal(number)
            with contextlib.suppress(psutil.Error):  # only root may let it hurry again
                psutil.Process(session.process.pid).nice(0)
        finally:
            code, _, err = session.end()
        assert code == 130, err
    assert "Traceback" not in err
    assert session.sealed() == (1 if stage == "report" else 0)
    assert session.status() == ("complete" if stage == "report" else "interrupted")
    if stage != "report":
        assert "interrupted before anything was measured" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_silent_server_is_asked(
    owner: Somebody, tmp_path: Path, number: signal.Signals
) -> None:
    with left_as_it_was(owner) as before:
        freeze(owner.pid)
        try:
            session = start_harness(MODEL + owner.scenario() + ONE + QUICK, tmp_path)
            try:
                reach("attaching", session, owner, before)
                session.signal(number)
            finally:
                code, _, err = session.end()
        finally:
            os.kill(owner.pid, signal.SIGCONT)
        assert code == 130, err
    assert "Traceback" not in err
    assert not session.reports.exists()


def test_a_second_signal_waits_until_all_is_put_back(owner: Somebody, tmp_path: Path) -> None:
    with left_as_it_was(owner) as before:
        session = start_harness(MODEL + owner.scenario() + ONE + LONG, tmp_path)
        try:
            wait_until(lambda: session.sealed() > 0, 120, "a trial is over")
            assert owner.state() != before
            freeze(owner.pid)  # so that not all is back before the second one comes
            session.signal(signal.SIGINT)
            wait_until(lambda: not session.generators(), 60, "the load generator is gone")
            session.signal(signal.SIGTERM)
        finally:
            os.kill(owner.pid, signal.SIGCONT)
            code, out, err = session.end()
        assert code == 130, err
    assert "index.html" in out
    assert session.status() == "interrupted"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("bad_onnx", "model.onnx failed"),
        ("bad_config", "See the server's own log for why polling 'bad_config' failed"),
        ("no_backend", "nosuch"),
    ],
)
def test_a_model_that_does_not_load_ends_the_run_and_leaves_nothing(
    owner: Somebody, tmp_path: Path, model: str, said: str
) -> None:
    models = exported(tmp_path / "models", model)
    text = f"model: [identity, {model}]\n{owner.scenario()}sweep: {{concurrency: 2}}\n"
    with left_as_it_was(owner):
        session = start_harness(text + QUICK, tmp_path, "--models", str(models))
        code, _, err = session.end()
        assert code == 3, err
    assert f"loading {model}: " in err
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    assert session.status() == "failed"


@pytest.mark.no_gpu
@pytest.mark.parametrize("metrics", [True, False])
def test_a_gpu_that_is_not_there_is_told(owner: Somebody, tmp_path: Path, metrics: bool) -> None:
    ports = {"metrics_port": owner.server.endpoints.metrics_port} if metrics else {}
    sweep = "sweep: {kind: gpu, concurrency: 2}\n"
    with left_as_it_was(owner):
        session = start_harness(MODEL + owner.scenario(**ports) + sweep + QUICK, tmp_path)
        code, _, err = session.end()
        assert code == 3, err
    own, tritons = (
        "sweep.kind: the server has no GPU, and",
        "has kind KIND_GPU but no GPUs are available",
    )
    (said,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (own in said) if metrics else (tritons in said)


def repeated(session: Session, trials: int) -> list[TrialRecord]:
    """The broken trials of a run that went on; each was repeated, and all that was planned is there."""
    record, sealed, _ = archive(session)
    assert record.status == "complete"
    broken = [trial for trial in sealed if trial.failure]
    for trial in broken:
        again = [
            other
            for other in sealed
            if other.index > trial.index
            and (other.point, other.pass_index) == (trial.point, trial.pass_index)
        ]
        assert again, trial.failure
        assert trial.failure_ns
    assert len({(t.point.key, t.pass_index) for t in sealed if not t.failure}) == trials
    return broken


def send(owner: Somebody, requests: int) -> None:
    """Send requests one after the other."""
    with triton.InferenceServerClient(owner.server.endpoints.grpc) as client:
        tensor = triton.InferInput("X", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
        for _ in range(requests):
            client.infer("identity", [tensor], client_timeout=20)


@pytest.mark.parametrize("configured", [False, True])
def test_a_restart_that_misses_no_question_breaks_the_trial_and_the_run_goes_on(
    tmp_path: Path, configured: bool
) -> None:
    """The server comes back at once with its model loaded: as its owner had it, or even as the trial wants it.

    Another Triton takes its place: one that is started anew does not come back so quickly.
    """
    with ExitStack() as stack:
        folders = [tmp_path / name for name in ("first", "second")]
        for folder in folders:
            folder.mkdir()
        first, second = (stack.enter_context(somebody(folder)) for folder in folders)
        with left_as_it_was(second) as before:
            assert first.state() == before
            address = stack.enter_context(relay(ports_of(first)))
            at = {f"{name}_port": port for name, port in address.ports.items()}
            # At so low a rate the second has soon counted more than the first ever will.
            sweep = "sweep: {instances: 1, dynamic_batching: null, rate: 50}\n"
            # A trial in whose midst one strikes, also where one is held up for seconds before.
            measure = "measure: {window: 7s, warmup_max: 1s, passes: 3, sentinels: false}\n"
            if not configured:
                send(second, 3000)
            session = start_harness(MODEL + first.scenario(**at) + sweep + measure, tmp_path)
            try:
                wait_until(lambda: under_load(first, before), 120, "a trial")
                if configured:
                    wanted = first.control.effective_configuration("identity")
                    second.control.load("identity", wanted, deadline_s=30)
                    assert second.state() == first.state()
                sealed = session.sealed()
                wait_until(lambda: session.sealed() > sealed, 60, "a trial is over")
                # Within a trial: between two of them a restart spoils nothing, and is none of the run's business.
                done = executed(first)
                wait_until(lambda: executed(first) > done + 100, 60, "the next trial is under load")
                address.switch(ports_of(second))
                struck_ns = time.monotonic_ns()
            finally:
                code, _, err = session.end(timeout_s=120)
            assert code in (0, 4), err
    (broken,) = repeated(session, trials=3)
    assert_noticed(broken, struck_ns)
    said = (
        r"the server's statistics went down \(.+\)"
        if configured
        else r"the configuration has changed since it was set: .+ \(.*dynamic_batching.*\)"
    )
    assert re.search(said, broken.failure or "")


def executed(owner: Somebody) -> int:
    return int(owner.control.snapshot("identity").counts["inference_count"])


def ports_of(owner: Somebody) -> dict[str, int]:
    at = owner.server.endpoints
    return {"http": at.http_port, "grpc": at.grpc_port or 0}


class TestFaults:
    """A server of its own for each, since it does not live through the test."""

    @pytest.mark.parametrize("fault", ["killed", "frozen"])
    def test_the_run_goes_on_when_the_server_is_back(self, tmp_path: Path, fault: str) -> None:
        ports = choose_ports({"http": 0, "grpc": 0, "metrics": 0})
        with somebody(tmp_path, ports=ports) as triton:
            text = MODEL + triton.scenario(ready_timeout="60s")
            session = start_harness(text + SWEEP + LONG.replace("4", "2"), tmp_path)
            wait_until(lambda: session.sealed() > 0, 120, "a trial is over")
            time.sleep(0.5)
            os.kill(triton.pid, signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
            struck_ns = time.monotonic_ns()
            if fault == "frozen":
                time.sleep(3)
                os.kill(triton.pid, signal.SIGCONT)
                code, _, err = session.end(timeout_s=120)
                self.check(session, code, err, fault, struck_ns)
                assert triton.state()["identity"]["dynamic_batching"] == OWN_BATCHING
                return
        time.sleep(1)
        with somebody(tmp_path, ports=ports, loaded=False) as triton:
            code, _, err = session.end(timeout_s=120)
            self.check(session, code, err, fault, struck_ns)
            assert triton.state()["identity"]["dynamic_batching"] == OWN_BATCHING

    def test_a_stub_that_dies_is_known_by_the_answers_and_replaced(self, tmp_path: Path) -> None:
        measure = "measure: {window: 9s, warmup_max: 1s, passes: 2, sentinels: false}\n"
        with somebody(tmp_path) as triton:
            session = start_harness(MODEL + triton.scenario() + ONE + measure, tmp_path)
            before = triton.state()
            try:
                wait_until(lambda: under_load(triton, before), 120, "a trial")
                wait_until(lambda: session.sealed() > 0, 60, "a trial is over")
                # Once more under load: the configuration is the same, so the stub stays.
                done = executed(triton)
                wait_until(lambda: executed(triton) > done + 1000, 60, "the next trial")
                (stub,) = (
                    pid
                    for role, pid in triton.server.processes()
                    if role == "stub" and "identity" in " ".join(psutil.Process(pid).cmdline())
                )
                os.kill(stub, signal.SIGKILL)
                struck_ns = time.monotonic_ns()
            finally:
                code, _, err = session.end(timeout_s=120)
            assert code in (0, 4), err
            assert triton.state() == before
        (broken,) = repeated(session, trials=2)
        assert "a Python stub of identity has died" in (broken.failure or "")
        assert_noticed(broken, struck_ns)

    @staticmethod
    def check(session: Session, code: int, err: str, fault: str, struck_ns: int) -> None:
        assert code in (0, 4), err
        broken = repeated(session, trials=4)
        if fault == "killed":
            assert_noticed(broken[0], struck_ns)

    @pytest.mark.parametrize("fault", ["killed", "frozen"])
    def test_a_server_that_stays_away_ends_the_run_and_what_was_measured_is_kept(
        self, tmp_path: Path, fault: str
    ) -> None:
        with somebody(tmp_path) as triton:
            # It is also how long a model may take to load.
            text = MODEL + triton.scenario(ready_timeout="10s")
            session = start_harness(text + SWEEP + LONG, tmp_path)
            wait_until(lambda: session.sealed() > 0, 120, "a trial is over")
            pid = triton.pid
            os.kill(pid, signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
            try:
                code, out, err = session.end(timeout_s=120)
            finally:
                if fault == "frozen":
                    os.kill(pid, signal.SIGCONT)
        assert code == 3, err
        said = " ".join(err.split())
        assert "the server did not answer within 10 s" in said
        assert "it does not answer, so nothing was put back of identity" in said
        assert "index.html" in out
        record, trials, _ = archive(session)
        assert record.status == "failed"
        assert [trial for trial in trials if not trial.failure]
