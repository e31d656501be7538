"""What keeps a container from serving: what is said of each, and that nothing is left behind."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import EnvironmentFailedError, HarnessError, UsageError
from harness.servers import serving
from harness.servers.container import engine
from harness.servers.ports import choose_ports
from tests.containers import MODELS, infer
from tests.python_models import CONFIG, HANGING, RAISING, python_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker import DockerClient

    from tests.containers import Box

CONNECT = engine.connect


def refused(box: Box, kind: type[HarnessError] = EnvironmentFailedError, **spec: object) -> str:
    """What is said where a server cannot be had; nothing of it may be left."""
    traces = box.traces()
    with (
        pytest.raises(kind) as caught,
        serving(box.spec(**spec), MODELS, logs=box.logs, run_id="test"),
    ):
        pass
    traces.assert_gone()
    assert caught.value.exit_code == (2 if kind is UsageError else 3)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["http", "grpc", "metrics"])
@pytest.mark.parametrize("network", ["bridge", "host"])
def test_a_port_that_a_process_has_taken(box: Box, network: str, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(box, network=network, **{f"{kind}_port": port})
    assert f"port {port}, wanted for {kind}, is taken by another program" in said
    assert "0 to have a free one picked" in said


@pytest.mark.long
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
    numbers = choose_ports({"http": 0, "grpc": 0, "metrics": 0})
    port, ports = numbers["http"], {f"{name}_port": number for name, number in numbers.items()}
    with socket.create_server(("127.0.0.1", port)):
        monkeypatch.setattr("harness.servers.container.start.choose_ports", lambda _: numbers)
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


def test_the_user_may_not_use_the_engine(
    box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as guarded:
        guarded.bind(str(tmp_path / "s"))
        guarded.listen()
        (tmp_path / "s").chmod(0)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        monkeypatch.setattr(engine, "connect", connect_as_nobody)
        said = refused(box)
    assert "this user may not use the container engine" in said
    assert "Join the group docker" in said


def connect_as_nobody() -> DockerClient:
    """As the harness connects, by a user who may not use the engine."""
    me = os.geteuid()
    if me == 0:  # who may everything
        os.seteuid(65534)
    try:
        return CONNECT()
    finally:
        os.seteuid(me)


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


@pytest.mark.no_gpu
def test_a_gpu_is_asked_for_and_none_is_there(box: Box) -> None:
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
    # A terminal that nobody types at, so that its certificate is read for ever.
    arguments = ("--grpc-use-ssl=true", "--grpc-server-cert=/dev/ptmx")
    said = refused(box, ready_timeout_s=0.5, extra_args=arguments)
    assert "not ready within 0.5 s" in said


@pytest.mark.long
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
    bad = python_model(tmp_path, "bad", RAISING, backend=backend, config=config)
    with box.running({"bad": bad, "identity": MODELS / "identity"}) as (server, control):
        with pytest.raises(EnvironmentFailedError, match=rf"loading bad: .*({reason})"):
            control.load("bad", deadline_s=60)
        assert server.failure() is None
        control.load("identity", deadline_s=60)
        assert infer(server, "identity", 3) == 3


@pytest.mark.long
def test_a_stub_that_cannot_start_runs_into_the_deadline(box: Box, tmp_path: Path) -> None:
    with box.running({"hangs": python_model(tmp_path, "hangs", HANGING)}) as (server, control):
        start = time.monotonic()
        with pytest.raises(EnvironmentFailedError, match="loading hangs: no answer within 2 s"):
            control.load("hangs", deadline_s=2)
        assert time.monotonic() - start < 30  # without a deadline it would wait for ever
        assert server.failure() is None
