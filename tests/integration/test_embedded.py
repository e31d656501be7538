"""The embedded server: what it serves, how it fails, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from harness.errors import EnvironmentFailedError, UsageError
from harness.scenario import ServerSpec
from harness.servers import serving
from harness.servers.control import Control
from harness.servers.embedded import server as embedded
from harness.servers.embedded.installation import install_environment
from harness.servers.embedded.interpreter import inspect
from harness.servers.health import ASK_EVERY_S, Health
from harness.servers.staging import staged
from tests.footprint import Footprint, freeze, lives, nothing_left, thaw_when_silent, wait_until
from tests.servers import make_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.servers.server import Server

MODELS = Path(__file__).parents[1] / "models"


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch)


@contextmanager
def running(tmp_path: Path, *models: str, **spec: Any) -> Iterator[tuple[Server, Footprint]]:
    """A server with models loaded; when the block ends, nothing of it may be left."""
    footprint = Footprint(os.getpid())
    with ExitStack() as stack:
        folders = {name: MODELS / name for name in models}
        repository = stack.enter_context(staged(folders, "test"))
        server = stack.enter_context(
            serving(ServerSpec(**spec), repository, logs=tmp_path, run_id="test")
        )
        footprint.note()
        with Control(server.endpoints, log=server.log) as control:
            for name in models:
                control.load(name, deadline_s=60)
        footprint.note()
        yield server, footprint
        footprint.note()
    footprint.assert_gone()


def infer(server: Server, model: str, x: list[float]) -> list[float]:
    with triton.InferenceServerClient(server.endpoints.grpc) as client:
        tensor = triton.InferInput("X", [len(x), 1], "FP32")
        tensor.set_data_from_numpy(np.array(x, np.float32)[:, None])
        answer = client.infer(model, [tensor], client_timeout=60).as_numpy("Y")
    assert answer.shape == (len(x), 1)
    return list(answer[:, 0])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Footprint]]:
    """A server with all models, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_home(folder, monkeypatch)
        with running(folder, "identity", "wrong", "nan", "null", "sleep") as server:
            yield server


def test_models_answer_with_their_values(shared: tuple[Server, Footprint]) -> None:
    server, footprint = shared
    assert infer(server, "identity", [1.5, -2, 3]) == [1.5, -2, 3]
    assert infer(server, "wrong", [1.5, -2]) == [2.5, -1]
    assert np.isnan(infer(server, "nan", [1])).all()
    assert infer(server, "null", [7]) == [0]
    start = time.monotonic()
    assert infer(server, "sleep", [7]) == [7]
    assert time.monotonic() - start >= 0.02
    assert len(footprint.regions()) == 5


def test_it_says_what_it_is_without_paths(shared: tuple[Server, Footprint]) -> None:
    said = shared[0].describe()
    assert said["kind"] == "embedded"
    assert said["version"] == "2.51.0"
    assert {"statistics", "model_configuration"} <= set(said["extensions"])
    assert said["packages"]["numpy"] < "2"
    assert "/" not in json.dumps(said)


def test_it_listens_on_loopback_only(shared: tuple[Server, Footprint]) -> None:
    server, _ = shared
    pids = [pid for _, pid in server.processes()]
    sockets = [c for pid in pids for c in psutil.Process(pid).net_connections("inet")]
    listening = [c.laddr for c in sockets if c.status == psutil.CONN_LISTEN]
    at = server.endpoints
    assert {laddr.port for laddr in listening} == {at.http_port, at.grpc_port, at.metrics_port}
    # gRPC binds an IPv6 socket to the IPv4 address.
    assert {laddr.ip.removeprefix("::ffff:") for laddr in listening} == {"127.0.0.1"}


def test_processes_are_the_server_and_its_stubs(shared: tuple[Server, Footprint]) -> None:
    found = shared[0].processes()
    assert [role for role, _ in found] == ["server"] + ["stub"] * 5
    names = {psutil.Process(pid).name() for _, pid in found}
    assert names == {"tritonserver", "triton_python_backend_stub"}
    assert all(os.getsid(pid) != os.getsid(0) for _, pid in found)


def test_cores_and_further_options_reach_it(own_home: Path, tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    options = ["--cache-config=local,size=1048576", "--rate-limit=execution_count"]
    with running(tmp_path, "identity", cpus=[core], extra_args=options) as (server, _):
        assert {c for _, pid in server.processes() for c in os.sched_getaffinity(pid)} == {core}
        with Control(server.endpoints) as control:
            config = control.effective_configuration("identity")
            control.load("identity", config | {"response_cache": {"enable": True}}, deadline_s=60)
            first = control.snapshot("identity")
            assert infer(server, "identity", [5]) == infer(server, "identity", [5]) == [5]
            wait_until(
                lambda: (
                    control.snapshot("identity").counts["cache_hit_count"]
                    == first.counts["cache_hit_count"] + 1
                )
            )


@pytest.mark.parametrize(
    "option", ["--model-repository=/", "--http-port=1", "--model-control-mode=none"]
)
def test_its_own_options_are_not_for_others(own_home: Path, tmp_path: Path, option: str) -> None:
    with (
        pytest.raises(UsageError, match="the harness's own"),
        serving(ServerSpec(extra_args=option), tmp_path, logs=tmp_path, run_id="test"),
    ):
        pass


def test_ports_that_are_given_are_used(own_home: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with running(tmp_path, "identity", http_port=port) as (server, _):
        assert server.endpoints.http_port == port
        assert server.endpoints.grpc_port not in {0, port}


@pytest.mark.parametrize("endpoint", ["http_port", "grpc_port", "metrics_port"])
def test_a_port_that_is_taken(own_home: Path, tmp_path: Path, endpoint: str) -> None:
    with nothing_left(), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(EnvironmentFailedError, match=f"{port}.*taken") as caught,
            running(tmp_path, **{endpoint: port}),
        ):
            pass
    assert caught.value.exit_code == 3
    assert not list((own_home / "running").iterdir())


@pytest.mark.parametrize("kind", ["http", "grpc", "metrics"])
def test_a_picked_port_that_is_lost_to_another_is_picked_anew(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    choose = embedded.choose_ports
    lost = []

    def choose_badly(wanted: dict[str, int]) -> dict[str, int]:
        ports = choose(wanted)
        if not lost:
            lost.append(ports[kind])
            taken.bind(("127.0.0.1", ports[kind]))
            taken.listen()
        return ports

    monkeypatch.setattr(embedded, "choose_ports", choose_badly)
    with socket.socket() as taken, running(tmp_path, "identity") as (server, _):
        ports = {server.endpoints.http_port, server.endpoints.grpc_port}
        assert lost
        assert lost[0] not in ports | {server.endpoints.metrics_port}
        assert infer(server, "identity", [1]) == [1]


def test_not_ready_in_time_says_so_with_the_last_lines_of_the_log(
    own_home: Path, tmp_path: Path
) -> None:
    certificate = tmp_path / "certificate.pem"
    os.mkfifo(certificate)  # nobody writes it, so that it is read for ever
    arguments = ("--grpc-use-ssl=true", f"--grpc-server-cert={certificate}")
    for timeout_s in (0.5, 5, 50):  # longer where it has not yet said all that it says until then
        logs = tmp_path / f"{timeout_s}"
        logs.mkdir()
        with (
            pytest.raises(EnvironmentFailedError) as caught,
            running(logs, ready_timeout_s=timeout_s, extra_args=arguments),
        ):
            pass
        said, _, lines = caught.value.what.partition("; its log ends:\n")
        assert said == f"the server was not ready within {timeout_s:g} s"
        log, _, _ = (logs / "tritonserver.log").read_text().partition("Signal (15) received.")
        last = [line for line in log.splitlines() if line][-20:]
        if last and lines.splitlines() == last:
            break
    else:
        pytest.fail(f"not the end of the log: {lines}\n---\n{log}")
    assert not list((own_home / "running").iterdir())
    assert not list((tmp_path / "tmp").iterdir())


def test_an_option_that_it_does_not_know_is_in_the_message(own_home: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(EnvironmentFailedError, match="unrecognized option '--no-such-option'"),
        running(tmp_path, extra_args="--no-such-option"),
    ):
        pass


def test_a_killed_server_is_known_and_cleaned_up_at_once(own_home: Path, tmp_path: Path) -> None:
    with running(tmp_path, "identity", "null") as (server, footprint):
        health = Health(server)
        health.settle()
        assert server.failure() is None
        assert health.failure() is None
        os.kill(server.processes()[0][1], signal.SIGKILL)
        wait_until(server.failure, 5)
        assert "was ended by SIGKILL" in server.failure()
        assert "successfully loaded 'null'" in server.failure()
        assert health.failure() == server.failure()
        assert not any(lives(pid) for pid in footprint.pids)
        assert not footprint.regions()


def test_a_killed_stub_is_known_though_the_server_says_ready(
    own_home: Path, tmp_path: Path
) -> None:
    with running(tmp_path, "identity", "null") as (server, _):
        health = Health(server)
        health.settle()
        stub = next(
            p for role, p in server.processes() if role == "stub" and "identity" in words(p)
        )
        os.kill(stub, signal.SIGKILL)
        wait_until(health.failure, 5)
        assert f"stub of identity_0_0 (process {stub}) has died" in health.failure()
        assert server.failure() is None
        assert embedded.answers(server.endpoints, "/v2/health/ready", 30)
        with pytest.raises(InferenceServerException):
            infer(server, "identity", [1])
        assert infer(server, "null", [1]) == [0]


def words(pid: int) -> str:
    return " ".join(psutil.Process(pid).cmdline())


def test_stubs_that_a_new_configuration_replaces_are_no_loss(
    own_home: Path, tmp_path: Path
) -> None:
    with (
        running(tmp_path, "identity") as (server, _),
        Control(server.endpoints) as control,
    ):
        config = control.effective_configuration("identity")
        old = {pid for role, pid in server.processes() if role == "stub"}
        control.load("identity", config | {"dynamic_batching": {}}, deadline_s=60)
        health = Health(server)
        health.settle()
        wait_until(lambda: not old & {pid for _, pid in server.processes()})
        assert health.failure() is None


def test_stubs_of_a_model_that_is_unloaded_are_no_loss(own_home: Path, tmp_path: Path) -> None:
    with (
        running(tmp_path, "identity", "null") as (server, _),
        Control(server.endpoints) as control,
    ):
        control.unload("null")
        health = Health(server)
        health.settle("identity")
        wait_until(lambda: len(server.processes()) == 2)
        assert health.failure() is None
        os.kill(server.processes()[1][1], signal.SIGKILL)
        wait_until(health.failure, 5)


@pytest.mark.long
def test_a_server_that_is_frozen_for_long_is_known(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, "identity") as (server, _):
        health = Health(server)
        health.settle()
        pid = server.processes()[0][1]
        freeze(pid)
        assert "frozen" in (health.failure() or "")
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: health.failure() is None, 5)
        # A short stop is waited for.
        freeze(pid)
        thawed = thaw_when_silent(pid, monkeypatch)
        time.sleep(ASK_EVERY_S)
        assert health.failure() is None
        assert thawed
        freeze(pid)  # and so it is stopped: SIGTERM will not do


def test_every_other_python_of_this_machine_serves_too(tmp_path: Path, own_home: Path) -> None:
    """``harness server install --python``; where there is one Python only, it has been tested above."""
    for name in ("python3.11", "python3.12"):
        try:
            other = inspect(Path(name))
        except EnvironmentFailedError:
            continue
        if other.version[:2] == sys.version_info[:2]:
            continue
        for folder in own_home.glob("server-*"):
            folder.unlink()
        assert install_environment(python=Path(name), progress=print).python_version.startswith(
            other.minor
        )
        with running(tmp_path, "identity") as (server, _):
            assert infer(server, "identity", [1, 2]) == [1, 2]


@contextmanager
def command(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The ``harness`` command, killed at the end if it still runs."""
    harness = shutil.which("harness", path=str(Path(sys.executable).parent))
    assert harness
    with subprocess.Popen(
        [harness, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def serve(process: subprocess.Popen[str]) -> Footprint:
    """Wait until ``harness serve`` has said where it listens, and note what it has started."""
    assert process.stdout
    footprint = Footprint(process.pid)
    lines = [process.stdout.readline() for _ in range(3)]
    assert [line.split()[0] for line in lines] == ["HTTP", "gRPC", "metrics"], lines
    footprint.note()
    assert len(footprint.servers) == 1
    assert footprint.regions()
    assert int(lines[0].strip().rpartition(":")[2]) in footprint.ports
    return footprint


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_in_order(own_home: Path, number: int) -> None:
    with command("serve", "identity", "null", "-r", MODELS) as process:
        footprint = serve(process)
        process.send_signal(number)
        assert process.wait(60) == 0
        footprint.assert_gone()


def test_a_terminal_that_interrupts_everyone_ends_in_order(own_home: Path) -> None:
    """Ctrl-C goes to the whole foreground group, twice by an impatient user."""
    with command("serve", "identity", "-r", MODELS, start_new_session=True) as process:
        footprint = serve(process)
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) in {0, 130}
        footprint.assert_gone(5)


@pytest.mark.parametrize("delay_s", [0.3, 0.6, 1.0])
def test_serve_is_interrupted_while_it_starts(own_home: Path, delay_s: float) -> None:
    with command("serve", "-r", MODELS) as process:
        footprint = Footprint(process.pid)
        time.sleep(delay_s)
        footprint.note()
        process.send_signal(signal.SIGTERM)
        # Before Python has installed its handler, the signal ends it as it ends any program.
        assert process.wait(60) in {0, 130, -signal.SIGTERM}
        wait_until(lambda: not footprint.left(), 5, str(footprint.left()))


def test_a_killed_command_leaves_nothing_to_the_next_start(own_home: Path, tmp_path: Path) -> None:
    with command("serve", "identity", "null", "-r", MODELS) as process:
        footprint = serve(process)
        process.kill()
        footprint.assert_gone(5, files=False)
    assert footprint.left()
    with running(tmp_path, "identity"):
        pass
    footprint.assert_gone()


def test_serve_says_why_a_server_died(own_home: Path) -> None:
    with command("serve", "identity", "-r", MODELS) as process:
        footprint = serve(process)
        os.kill(next(iter(footprint.servers)), signal.SIGKILL)
        assert process.wait(60) == 3
        assert "ended by SIGKILL" in process.stderr.read()
        footprint.assert_gone()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["serve", "nosuch", "-r", MODELS], 2, "nosuch: there is no config.pbtxt"),
        (["serve", "../models/null", "-r", MODELS], 2, "is no model name"),
        (["serve", "-r", "/no/such"], 2, "no exported model in this repository"),
        (["serve", "--cpus", "a-b", "-r", MODELS], 2, "'a-b' is no list of cores"),
        (["serve", "--cpus", "100000", "-r", MODELS], 2, "server.cpus: no core 100000 here"),
        (["serve", "-r", MODELS, "--http-port", "7", "--grpc-port", "7"], 2, "given twice"),
        (["serve", "-r", MODELS, "--memory", "7"], 2, "size with its unit"),
    ],
)
def test_serve_refuses(own_home: Path, arguments: list[object], code: int, said: str) -> None:
    with command(*arguments, env=os.environ | {"COLUMNS": "200"}) as process:
        _, stderr = process.communicate(timeout=120)
        assert said in stderr
        assert process.returncode == code
        assert stderr.count("\n") == 1
    assert not list((own_home.parent / "tmp").iterdir())
