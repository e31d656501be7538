"""The ways in which a container fails: what is said of each, and that nothing is left behind."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from harness.errors import EnvironmentFailedError, HarnessError, UsageError
from harness.servers import engine, serving
from harness.servers.health import FROZEN_S, Health
from harness.servers.inquiry import answers
from harness.servers.leftovers import reap
from harness.servers.ports import choose_ports
from tests.containers import MODELS
from tests.footprint import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from harness.servers.container import ContainerServer
    from tests.containers import Box, Traces

NOTICED_S = 5.0
CONFIG = """\
name: "NAME"
backend: "BACKEND"
max_batch_size: 64
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { count: 1 kind: KIND_CPU }
"""
HUNGRY = """\
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.kept = bytearray({at_load_mib} << 20)

    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            self.kept += bytearray(int(x[0, 0]) << 20)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]))
        return answers
"""
HANGING = """\
import time

class TritonPythonModel:
    def initialize(self, args):
        while True:
            time.sleep(1)
"""
RAISING = """\
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("the weights are from another planet")
"""


def model(
    folder: Path, name: str, code: str, *, backend: str = "python", config: str = CONFIG
) -> Path:
    version = folder / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(code)
    text = config.replace("NAME", name).replace("BACKEND", backend)
    (folder / name / "config.pbtxt").write_text(text)
    return folder / name


def infer(server: ContainerServer, name: str, x: float, timeout_s: float = 10) -> float:
    with triton.InferenceServerClient(server.endpoints.grpc) as client:
        tensor = triton.InferInput("X", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.array([[x]], np.float32))
        return float(client.infer(name, [tensor], client_timeout=timeout_s).as_numpy("Y")[0, 0])


def refused(box: Box, kind: type[HarnessError] = EnvironmentFailedError, **spec: object) -> str:
    """What is said where a server cannot be had; nothing of it may be left."""
    traces = box.traces()
    with (
        pytest.raises(kind) as caught,
        serving(box.spec(**spec), MODELS, logs=box.logs, run_id="test"),
    ):
        pass
    traces.assert_gone()
    return str(caught.value)


# Before there is a container.


@pytest.mark.parametrize("kind", ["http", "grpc", "metrics"])
@pytest.mark.parametrize("network", ["bridge", "host"])
def test_a_port_that_a_process_has_taken(box: Box, network: str, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(box, network=network, **{f"{kind}_port": port})
    assert f"port {port}, wanted for {kind}, is taken by another program" in said
    assert "0 to have a free one picked" in said


@pytest.mark.parametrize("network", ["bridge", "host"])
def test_a_port_that_another_container_has_taken(box: Box, network: str) -> None:
    with box.running() as (server, _):
        said = refused(box, network=network, grpc_port=server.endpoints.http_port)
        assert server.failure() is None
    assert f"wanted for grpc, is taken by the container {server.name}" in said


def test_a_given_port_that_is_lost_while_the_container_is_made(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one is given, no other will do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
        numbers = {name.removesuffix("_port"): number for name, number in ports.items()}
        monkeypatch.setattr("harness.servers.container_start.choose_ports", lambda _: numbers)
        assert f"port {port} is already in use" in refused(box, **ports)


def test_there_is_no_engine(box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    said = refused(box)
    assert "there is no container engine: nothing is at this socket" in said
    assert f"{tmp_path}/none.sock" in said
    assert "set DOCKER_HOST, or use a server of kind embedded" in said


def test_the_engine_refuses(box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "s"))
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        assert "the container engine is not running: its socket refuses" in refused(box)


def test_the_user_may_not_use_the_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as guarded:
        guarded.bind(str(tmp_path / "s"))
        guarded.listen()
        (tmp_path / "s").chmod(0)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        me = os.geteuid()
        if me == 0:  # who may everything
            os.seteuid(65534)
        try:
            with pytest.raises(EnvironmentFailedError) as caught:
                engine.connect()
        finally:
            os.seteuid(me)
    assert "this user may not use the container engine" in str(caught.value)
    assert "Join the group docker" in str(caught.value)


def test_something_else_than_an_engine_is_at_the_address(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "nonsense://here")
    assert "the container engine cannot be used" in refused(box)


@pytest.mark.parametrize(
    "image", ["registry.invalid/triton:1", "triton-harness-no-such-image:25.01"]
)
def test_an_image_that_is_missing_and_no_registry(box: Box, image: str) -> None:
    said = refused(box, image=image)
    assert f"the image {image} is not here and its registry cannot be reached" in said
    assert "docker load" in said


@pytest.fixture
def other_image(container_engine: DockerClient, box: Box) -> Iterator[str]:
    """An image that has no program of Triton's."""
    archive = box.logs / "other.tar"
    with tarfile.open(archive, "w") as tar:
        program = tarfile.TarInfo("bin/true")
        program.mode = 0o755
        tar.addfile(program, io.BytesIO())
    name = "triton-harness-test-other:1"
    container_engine.api.import_image(str(archive), repository=name.partition(":")[0], tag="1")
    yield name
    container_engine.images.remove(name)


def test_an_image_that_is_no_triton(box: Box, other_image: str) -> None:
    said = refused(box, image=other_image)
    assert f"the image {other_image} is not a Triton server" in said


def test_a_gpu_is_asked_for_and_none_is_there(box: Box) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    for gpus in ("all", [0, 1]):
        said = refused(box, gpus=gpus)
        assert "server.gpus: the container engine has no GPU to give" in said
        assert "or leave gpus out" in said


def test_cores_that_are_not_there(box: Box) -> None:
    assert "the cores 4095 cannot be given" in refused(box, UsageError, cpus=4095)


def test_too_little_memory_for_any_container(box: Box) -> None:
    assert "server.memory:" in refused(box, UsageError, memory="1m")


def test_an_option_that_the_server_does_not_know(box: Box) -> None:
    assert "unrecognized option '--no-such'" in refused(box, extra_args="--no-such")


def test_a_variable_to_pass_on_that_is_not_set(box: Box) -> None:
    said = refused(box, UsageError, env={"NO_SUCH_TOKEN": None})
    assert "NO_SUCH_TOKEN is to be passed on to the server and is not set" in said


def test_a_folder_that_the_engine_does_not_see(box: Box, tmp_path: Path) -> None:
    traces = box.traces()
    with (
        pytest.raises(EnvironmentFailedError, match=r"does not see .*gone: it runs on another"),
        serving(box.spec(), tmp_path / "gone", logs=box.logs, run_id="test"),
    ):
        pass
    traces.assert_gone()
    assert not (tmp_path / "gone").exists()  # as a volume it would have been made


def test_not_ready_in_time(box: Box) -> None:
    assert "not ready within 0.001 s" in refused(box, ready_timeout_s=0.001)


# Models that do not load.


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raises", "the weights are from another planet"),
        ("backend", "unable to find backend library for backend 'onnxruntime'"),
        ("configuration", "max_batch_size"),
        ("syntax", "failed to load|Poll failed|Error parsing"),
    ],
)
def test_a_model_that_does_not_load(box: Box, tmp_path: Path, fault: str, reason: str) -> None:
    config = CONFIG.replace("64", "-1") if fault == "configuration" else CONFIG
    config = config.replace('"X"', "X X") if fault == "syntax" else config
    backend = "onnxruntime" if fault == "backend" else "python"
    bad = model(tmp_path, "bad", RAISING, backend=backend, config=config)
    with box.running({"bad": bad, "identity": MODELS / "identity"}) as (server, control):
        with pytest.raises(EnvironmentFailedError, match=rf"loading bad: .*({reason})"):
            control.load("bad", deadline_s=30)
        assert server.failure() is None
        control.load("identity", deadline_s=30)
        assert infer(server, "identity", 3) == 3


def test_a_stub_that_cannot_start_runs_into_the_deadline(box: Box, tmp_path: Path) -> None:
    with box.running({"hangs": model(tmp_path, "hangs", HANGING)}) as (server, control):
        start = time.monotonic()
        with pytest.raises(EnvironmentFailedError, match="loading hangs: no answer within 2 s"):
            control.load("hangs", deadline_s=2)
        assert time.monotonic() - start < 10
        assert server.failure() is None


# While it serves.


@pytest.mark.parametrize("network", ["bridge", "host"])
def test_the_server_is_killed(box: Box, network: str) -> None:
    with box.running(("identity",), network=network) as (server, _):
        assert server.main is not None
        os.kill(server.main.pid, signal.SIGKILL)
        wait_until(server.failure, NOTICED_S)
        said = server.failure()
        assert said.startswith("the server in the container was ended by SIGKILL; its log ends:")
        assert "successfully loaded 'identity'" in said
        assert Health(server).failure() == said


def test_the_container_is_removed_by_somebody_else(box: Box) -> None:
    with box.running(("identity",)) as (server, _):
        server.client.api.remove_container(server.name, force=True)
        wait_until(server.failure, NOTICED_S)
        assert f"container {server.name} was removed by somebody else" in server.failure()


def test_the_container_is_restarted_by_somebody_else(box: Box) -> None:
    with box.running(("identity",)) as (server, _):
        server.client.api.restart(server.name, timeout=0)
        wait_until(server.failure, NOTICED_S)
        assert f"container {server.name} was restarted by somebody else" in server.failure()


def test_a_stub_is_killed_though_the_server_says_ready(box: Box) -> None:
    with box.running(("identity", "null")) as (server, _):
        health = Health(server)
        health.settle()
        stubs = [pid for role, pid in server.processes() if role == "stub"]
        stub = next(
            pid for pid in stubs if b"identity_0" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(stub, signal.SIGKILL)
        wait_until(health.failure, NOTICED_S)
        assert "stub of identity_0_0" in health.failure()
        assert server.failure() is None
        assert answers(server.endpoints, "/v2/health/ready")
        with pytest.raises(InferenceServerException):
            infer(server, "identity", 1)
        assert infer(server, "null", 1) == 0


def test_out_of_memory_at_load(box: Box, tmp_path: Path) -> None:
    hungry = model(tmp_path, "hungry", HUNGRY.format(at_load_mib=500))
    with box.running({"hungry": hungry}, memory="256m") as (server, control):
        with pytest.raises(EnvironmentFailedError):
            control.load("hungry", deadline_s=30)
        wait_until(server.failure, NOTICED_S)
        said = server.failure()
        assert "the container reached its memory limit of 256 MiB and the kernel ended" in said


def test_out_of_memory_of_the_server_itself(box: Box) -> None:
    with box.running({"identity": MODELS / "identity"}, memory="6m") as (server, control):
        with pytest.raises(EnvironmentFailedError):
            control.load("identity", deadline_s=30)
        wait_until(server.failure, NOTICED_S)
        assert "memory limit of 6 MiB" in server.failure()
        assert "the kernel ended the server" in server.failure()


def test_out_of_memory_under_load(box: Box, tmp_path: Path) -> None:
    hungry = model(tmp_path, "hungry", HUNGRY.format(at_load_mib=1))
    with box.running({"hungry": hungry}, memory="256m") as (server, control):
        control.load("hungry", deadline_s=30)
        health = Health(server)
        health.settle()
        assert infer(server, "hungry", 1) == 1
        assert health.failure() is None
        with pytest.raises(InferenceServerException):
            infer(server, "hungry", 500)
        wait_until(health.failure, NOTICED_S)
        wait_until(server.failure, NOTICED_S)
        assert "memory limit of 256 MiB and the kernel ended a process" in server.failure()
        assert server.failure() == health.failure()


def test_a_server_that_is_frozen(box: Box) -> None:
    with box.running(("identity",)) as (server, _):
        assert server.main is not None
        health = Health(server)
        health.settle()
        os.kill(server.main.pid, signal.SIGSTOP)
        timer = threading.Timer(FROZEN_S / 2, os.kill, (server.main.pid, signal.SIGCONT))
        timer.start()
        assert health.failure() is None  # a short silence is waited for
        timer.join()
        assert infer(server, "identity", 2) == 2
        os.kill(server.main.pid, signal.SIGSTOP)  # for ever: SIGTERM will not do
        wait_until(health.failure, NOTICED_S)
        assert "it hangs, or it is frozen" in health.failure()


def test_an_engine_that_is_gone_ends_nothing_that_serves(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine may be restarted without its containers (``live-restore``)."""
    with box.running(("identity",)) as (server, _), monkeypatch.context() as patch:
        patch.setattr(server.client.api, "inspect_container", unreachable)
        patch.setattr(type(server.watch), "listening", False)
        time.sleep(2.5)
        assert server.failure() is None
        patch.setattr(server, "main", None)
        server._inspected_s = 0
        assert "the container engine does not answer any more" in server.failure()


def unreachable(*_: object) -> None:
    raise ConnectionRefusedError(111, "Connection refused")


# From the outside.


@contextmanager
def command(*arguments: object, **options: object) -> Iterator[subprocess.Popen[str]]:
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


def served(process: subprocess.Popen[str], traces: Traces) -> None:
    """Wait until ``harness serve`` has said where it listens, and note what it has started."""
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(3)]
    assert [line.split()[0] for line in lines] == ["HTTP", "gRPC", "metrics"], lines
    traces.note()
    assert traces.pids


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_in_order(box: Box, number: int) -> None:
    traces = box.traces()
    with command("serve", "identity", "-r", MODELS, "--container", "--image", box.image) as process:
        served(process, traces)
        process.send_signal(number)
        assert process.wait(20) == 0
        traces.assert_gone(1)


def test_a_terminal_that_interrupts_everyone_ends_in_order(box: Box) -> None:
    traces = box.traces()
    arguments = ("serve", "identity", "-r", MODELS, "--container", "--image", box.image)
    with command(*arguments, start_new_session=True) as process:
        served(process, traces)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) in {0, 130}
        traces.assert_gone(5)


@pytest.mark.parametrize("delay_s", [0.3, 0.5, 0.7, 0.9, 1.1, 1.4, 1.8, 2.4])
def test_serve_is_interrupted_while_it_starts(box: Box, delay_s: float) -> None:
    """At every stage: looking into the image, making the container, starting it, loading."""
    traces = box.traces()
    with command("serve", "-r", MODELS, "--container", "--image", box.image) as process:
        time.sleep(delay_s)
        process.send_signal(signal.SIGTERM)
        # Before Python has installed its handler, the signal ends it as it ends any program.
        _, said = process.communicate(timeout=30)
        assert process.returncode in {0, 130, -signal.SIGTERM}, said
        traces.assert_gone(1)


def test_a_killed_command_leaves_nothing_to_the_next_start(box: Box) -> None:
    traces = box.traces()
    with command("serve", "identity", "-r", MODELS, "--container", "--image", box.image) as process:
        served(process, traces)
        process.kill()
        process.wait()
    assert any(line.startswith("containers") for line in traces.left())
    with box.running():
        # It was noted by what came after, so its end is looked at here.
        traces.pids = {pid for pid in traces.pids if Path(f"/proc/{pid}").exists()}
        assert not traces.pids
    traces.assert_gone()


def test_a_start_of_any_kind_removes_a_killed_commands_container(box: Box) -> None:
    traces = box.traces()
    with command("serve", "identity", "-r", MODELS, "--container", "--image", box.image) as process:
        served(process, traces)
        process.kill()
        process.wait()
    done = reap()
    assert any(line.startswith("removed container triton-harness-serve-") for line in done)
    traces.assert_gone()


def test_a_container_of_a_living_owner_is_left_alone(box: Box) -> None:
    with box.running(("identity",)) as (server, _):
        assert engine.reap(server.client) == []
        assert reap() == []
        assert infer(server, "identity", 4) == 4


def test_a_container_of_another_machine_is_left_alone(
    box: Box, container_engine: DockerClient
) -> None:
    """Several machines may use one engine: what runs there is nobody's to remove from here."""
    marks = engine.labels("elsewhere")
    boot = '"boot": "'
    marks[engine.LABEL_OWNER] = marks[engine.LABEL_OWNER].replace(boot, f"{boot}another-")
    containers = container_engine.containers
    made = containers.create(box.image, ["sleep", "100"], labels=marks, network_mode="none")
    try:
        made.start()
        assert engine.reap(container_engine) == []
        made.kill()
        wait_until(lambda: containers.get(made.id).status == "exited")
        assert len(engine.reap(container_engine)) == 1
        assert made.id not in {one.id for one in containers.list(all=True)}
    finally:
        engine.remove(container_engine, made.id)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--image", "registry.invalid/t:1", "--container"], 3, "registry cannot be reached"),
        (["--image", "x y", "--container"], 2, "--image"),
        (["--memory", "1g"], 2, "this is an option of containers. Add --container"),
        (["--container", "--memory", "7"], 2, "size with its unit"),
        (["--container", "--network", "none"], 2, "--network"),
        (["--container", "--gpus", "some"], 2, "--gpus: expected all"),
    ],
)
def test_serve_refuses(box: Box, arguments: list[str], code: int, said: str) -> None:
    traces = box.traces()
    wide = os.environ | {"COLUMNS": "200"}
    with command("serve", "identity", "-r", MODELS, *arguments, env=wide) as process:
        _, stderr = process.communicate(timeout=60)
    assert said in stderr
    assert process.returncode == code
    assert stderr.count("\n") == 1
    traces.assert_gone()


def test_the_printed_command_serves(box: Box, container_engine: DockerClient) -> None:
    """What is printed is run by a shell, with the engine's own command."""
    if shutil.which("docker") is None:
        pytest.skip("no docker command")
    arguments = ("serve", "identity", "-r", MODELS, "--image", box.image, "--print-command")
    ports = choose_ports({"http": 0, "grpc": 0, "metrics": 0})
    given = [word for kind, port in ports.items() for word in (f"--{kind}-port", port)]
    with command(*arguments, *given, "--network", "host") as process:
        line, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    traces = box.traces()
    name = "triton-harness-printed"
    shell = line.replace("docker run", f"docker run --name {name}", 1)
    with subprocess.Popen(
        ["bash", "-c", shell], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ):
        try:
            url = f"http://127.0.0.1:{ports['http']}/v2/models/identity/ready"
            wait_until(
                lambda: subprocess.run(["curl", "-sf", url], check=False).returncode == 0, 30
            )
        finally:
            engine.stop(container_engine, name, 8)
    traces.assert_gone()
