"""The server in a container: what it serves, what it was started with, what it says of itself."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from harness.errors import EnvironmentFailedError
from harness.point import ServerConfiguration
from harness.reference import read_reference
from harness.servers.container import engine
from harness.servers.container import start as container_start
from harness.servers.container.start import prepare_image
from harness.servers.control import difference
from harness.servers.gpus import require_gpus
from harness.servers.health import Health
from harness.servers.inquiry import answers
from harness.servers.leftovers import PREFIX
from harness.servers.readings.cgroup import ContainerUsage
from harness.servers.readings.metric_log import MetricLog
from harness.servers.readings.sources import sources_of
from harness.servers.readings.telemetry import Telemetry
from tests.containers import own_box
from tests.footprint import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker import DockerClient

    from harness.servers.container.server import ContainerServer
    from harness.servers.control import Control
    from harness.servers.readings.metric_log import MetricReading
    from harness.servers.readings.telemetry import Reading
    from tests.containers import Box

NETWORKS = ["bridge", "host"]
CONTAINER_METRICS = {"container_cpu_seconds", "container_memory_bytes"}


@pytest.fixture(scope="module", params=NETWORKS)
def shared(
    request: pytest.FixtureRequest,
    container_engine: DockerClient,
    triton_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ContainerServer, Control]]:
    """A server on each kind of network, for tests that change nothing."""
    with pytest.MonkeyPatch.context() as patch:
        box = own_box(container_engine, triton_image, tmp_path_factory.mktemp("shared"), patch)
        patch.setenv("SECRET", "of the king")
        env = {"PLAIN": "one two", "SECRET": None}
        with box.running(("identity", "wrong"), network=request.param, env=env) as both:
            yield both


def infer(
    server: ContainerServer, model: str, x: list[float], protocol: str = "grpc"
) -> list[float]:
    library = grpc_client if protocol == "grpc" else http_client
    address = server.endpoints.grpc if protocol == "grpc" else server.endpoints.http
    with library.InferenceServerClient(address) as client:
        tensor = library.InferInput("X", [len(x), 1], "FP32")
        tensor.set_data_from_numpy(np.array(x, np.float32)[:, None])
        answer = client.infer(model, [tensor]).as_numpy("Y")
    assert answer.shape == (len(x), 1)
    return list(answer[:, 0])


def attributes(server: ContainerServer) -> dict[str, object]:
    return dict(server.client.api.inspect_container(server.name))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_models_answer_with_their_values(
    shared: tuple[ContainerServer, Control], protocol: str
) -> None:
    server, _ = shared
    assert infer(server, "identity", [1.5, -2, 3], protocol) == [1.5, -2, 3]
    assert infer(server, "wrong", [1.5, -2], protocol) == [2.5, -1]


def test_it_says_what_it_is_without_paths_and_secrets(
    shared: tuple[ContainerServer, Control], triton_image: str
) -> None:
    server, _ = shared
    said = server.describe()
    assert said["kind"] == "container"
    assert said["version"] == "2.51.0"
    assert {"statistics", "model_configuration"} <= set(said["extensions"])
    assert said["image"] == triton_image
    assert said["image_id"].startswith("sha256:")
    assert said["image_digest"] is None
    assert said["release"] == "24.10"
    assert said["backends"] == ["python"]
    assert said["engine"].split()[0] in {"Docker", "Podman"}
    assert said["env"] == ["PLAIN", "SECRET"]
    assert "king" not in json.dumps(said)
    assert str(server.launch.repository) not in json.dumps(said)


def test_variables_reach_it(shared: tuple[ContainerServer, Control]) -> None:
    server, _ = shared
    assert server.main is not None
    variables = server.main.environ()
    assert variables["PLAIN"] == "one two"
    assert variables["SECRET"] == "of the king"


def test_it_listens_on_loopback_only(shared: tuple[ContainerServer, Control]) -> None:
    server, _ = shared
    at = server.endpoints
    ports = {at.http_port, at.grpc_port, at.metrics_port}
    listening = {
        (each.laddr.ip.removeprefix("::ffff:"), each.laddr.port)
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port in ports
    }
    assert listening == {("127.0.0.1", port) for port in ports}


def test_every_endpoint_answers_once_it_is_ready(shared: tuple[ContainerServer, Control]) -> None:
    server, control = shared
    assert answers(server.endpoints, "/v2/health/ready")
    assert control.is_model_ready("identity")
    with socket.create_connection((server.endpoints.host, server.endpoints.metrics_port)) as line:
        line.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"nv_inference_request_success" in b"".join(iter(lambda: line.recv(65536), b""))


def test_processes_are_seen_from_here(shared: tuple[ContainerServer, Control]) -> None:
    server, _ = shared
    found = server.processes()
    assert sorted(role for role, _ in found) == ["server", "stub", "stub"]
    names = {role: psutil.Process(pid).name() for role, pid in found}
    assert names == {"server": "tritonserver", "stub": "triton_python_backend_stub"}
    assert os.getpid() not in {pid for _, pid in found}


def test_telemetry_reads_them(shared: tuple[ContainerServer, Control]) -> None:
    server, _ = shared
    with Telemetry(0.05) as telemetry:
        telemetry.start(server.processes)
        rows: list[Reading] = []

        def used(role: str) -> float:
            """CPU time since the first reading: it is counted in hundredths of a second."""
            total = 0.0
            for pid in {row[2] for row in rows if row[1] == role}:
                cpu = [row[3] for row in rows if row[2] == pid]
                total += cpu[-1] - cpu[0]
            return total

        def works() -> bool:
            infer(server, "identity", [1.0] * 64)
            rows.extend(telemetry.drain())
            return used("server") > 0 and used("stub") > 0

        wait_until(works, 60, "CPU time of the server and of a stub")
        telemetry.stop()
    assert all(row[4] > 10_000_000 for row in rows if row[1] in {"server", "stub"})


def test_the_repository_cannot_be_written_to(shared: tuple[ContainerServer, Control]) -> None:
    server, _ = shared
    container = server.client.containers.get(server.name)
    status, said = container.exec_run(["touch", "/models/identity/1/new"])
    assert status != 0
    assert b"Read-only file system" in said
    (mount,) = container.attrs["Mounts"]
    assert mount["Source"] == str(server.launch.repository)
    assert not mount["RW"]


def test_it_is_known_as_the_runs_own(shared: tuple[ContainerServer, Control]) -> None:
    server, _ = shared
    config = server.client.containers.get(server.name)
    assert config.labels[engine.LABEL_RUN] == "test"
    assert json.loads(config.labels[engine.LABEL_OWNER])["owner"][0] == os.getpid()
    assert config.name.startswith(f"{PREFIX}test-")
    assert config.attrs["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert not config.attrs["HostConfig"]["Privileged"]


def test_the_log_is_in_the_runs_folder(shared: tuple[ContainerServer, Control]) -> None:
    server, _ = shared
    assert server.log.name == "tritonserver.log"
    # The engine brings a line a little later than the server its answer.
    wait_until(lambda: "successfully loaded 'identity'" in server.log.read_text())
    text = server.log.read_text()
    assert "a local image for tests" in text
    assert "Started HTTPService" in text


def test_it_lives(shared: tuple[ContainerServer, Control]) -> None:
    server, _ = shared
    health = Health(server)
    health.settle()
    assert server.failure() is None
    assert health.failure() is None


def test_it_is_configured_while_it_runs_and_counts(box: Box) -> None:
    with box.running(("identity",)) as (server, control):
        config = control.effective_configuration("identity")
        (group,) = config["instance_group"]
        # Another count leaves the stub that is there. Where two start at once on a busy machine, one of
        # Triton 2.51's now and then dies (see OWN_BATCHING in tests/somebody.py).
        control.load("identity", config | {"instance_group": [group | {"count": 2}]}, deadline_s=60)
        assert control.effective_configuration("identity")["instance_group"][0]["count"] == 2
        wait_until(lambda: [role for role, _ in server.processes()].count("stub") == 2)
        control.load("identity", config | {"dynamic_batching": {}}, deadline_s=60)
        assert "dynamic_batching" in control.effective_configuration("identity")
        first = control.snapshot("identity")
        for size in (1, 1, 8):
            infer(server, "identity", [1.0] * size)
        # A request is counted before its batch is, and both after its answer.
        wait_until(lambda: sum(counted(first, control).executed_batches.values()) >= 3)
        wait_until(lambda: counted(first, control).success_count >= 3)
        window = counted(first, control)
        assert window.success_count == 3
        assert window.inference_count == 10
        assert window.executed_batches == {1: 2, 8: 1}


def counted(first: object, control: Control) -> object:
    return difference(first, control.snapshot("identity"))


def test_limits_and_options_reach_it(box: Box) -> None:
    core = max(os.sched_getaffinity(0))
    spec = {"memory": "1g", "shm_size": "128m", "cpus": core, "network": "host"}
    options = ["--cache-config=local,size=1048576"]
    with box.running(("identity",), extra_args=options, **spec) as (server, control):
        assert {c for _, pid in server.processes() for c in os.sched_getaffinity(pid)} == {core}
        limits = attributes(server)["HostConfig"]
        assert limits["Memory"] == limits["MemorySwap"] == 1 << 30
        container = server.client.containers.get(server.name)
        _, said = container.exec_run(["df", "-k", "/dev/shm"])
        assert int(said.split()[-5]) == 128 << 10
        config = control.effective_configuration("identity")
        control.load("identity", config | {"response_cache": {"enable": True}}, deadline_s=60)
        before = control.snapshot("identity")
        assert infer(server, "identity", [5]) == infer(server, "identity", [5]) == [5]
        wait_until(lambda: counted(before, control).cache_hit_count == 1)
        said = server.describe()
        assert said["memory_bytes"] == 1 << 30
        assert said["cpus"] == [core]
        assert said["network"] == "host"


@pytest.mark.parametrize("network", NETWORKS)
def test_ports_that_are_given_are_used(box: Box, network: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with box.running(("identity",), grpc_port=port, network=network) as (server, _):
        assert server.endpoints.grpc_port == port
        assert server.endpoints.http_port not in {0, port}
        assert infer(server, "identity", [1]) == [1]


@pytest.mark.parametrize("kind", ["http", "grpc", "metrics"])
@pytest.mark.parametrize("network", ["host", pytest.param("bridge", marks=pytest.mark.long)])
def test_a_picked_port_that_is_lost_to_another_is_picked_anew(
    box: Box, monkeypatch: pytest.MonkeyPatch, network: str, kind: str
) -> None:
    choose = container_start.choose_ports
    lost = []

    def choose_badly(wanted: dict[str, int]) -> dict[str, int]:
        ports = choose(wanted)
        if not lost:
            lost.append(ports[kind])
            taken.bind(("127.0.0.1", ports[kind]))
            taken.listen()
        return ports

    monkeypatch.setattr(container_start, "choose_ports", choose_badly)
    with socket.socket() as taken, box.running(("identity",), network=network) as (server, _):
        at = server.endpoints
        assert lost
        assert lost[0] not in {at.http_port, at.grpc_port, at.metrics_port}
        assert infer(server, "identity", [1]) == [1]


@pytest.mark.parametrize("network", NETWORKS)
def test_the_network_is_served_with_right_answers(
    box: Box, triton_models: Path, network: str
) -> None:
    model = triton_models / "cnn"
    reference = read_reference(model / "reference.npz")
    ((name, images),) = reference.inputs.items()
    ((output, expected),) = reference.outputs.items()
    images, expected = images[:64], expected[:64]
    with box.running({"cnn": model}, network=network) as (server, control):
        control.load("cnn", deadline_s=60)
        with http_client.InferenceServerClient(server.endpoints.http) as client:
            tensor = http_client.InferInput(name, list(images.shape), "FP32")
            tensor.set_data_from_numpy(images)
            answer = client.infer("cnn", [tensor]).as_numpy(output)
    np.testing.assert_allclose(answer, expected, atol=1e-4)


def test_an_image_that_is_here_is_not_fetched(box: Box) -> None:
    seen: list[object] = []
    prepare_image(box.spec(), seen.append)
    assert not seen


def test_its_control_group_says_what_its_processes_use(
    shared: tuple[ContainerServer, Control],
) -> None:
    server, _ = shared
    (source,) = [each for each in sources_of(server, ["identity"]) if each.name == "container"]
    assert isinstance(source, ContainerUsage)
    by_engine = ContainerUsage(None, source.ask)  # as where its processes are not seen from here

    def processes_s() -> float:
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for _, pid in server.processes())

    def container_s(usage: ContainerUsage) -> float:
        return {name: value for name, _, value in usage.read()}["container_cpu_seconds"]

    before = [processes_s(), container_s(source), container_s(by_engine)]
    for _ in range(200):
        infer(server, "identity", [1.0] * 8)
    after = [processes_s(), container_s(source), container_s(by_engine)]
    used, by_files, asked = [last - first for first, last in zip(before, after, strict=True)]
    # The kernel counts nanoseconds, and a process's own figures are in hundredths of a second, each.
    assert by_files == pytest.approx(used, abs=0.02 * (2 + len(server.processes())))
    assert asked == pytest.approx(by_files, rel=0.3, abs=0.05)
    memory = {name: value for name, _, value in source.read()}["container_memory_bytes"]
    assert (
        10e6
        < memory
        < 4 * sum(psutil.Process(pid).memory_info().rss for _, pid in server.processes())
    )


def test_a_run_takes_the_containers_figures_where_processes_are_not_seen(
    shared: tuple[ContainerServer, Control],
) -> None:
    server, _ = shared
    with MetricLog(0.05) as log:
        log.start(sources_of(server, ["identity"]))
        rows: list[MetricReading] = []
        wanted = {("container", name) for name in CONTAINER_METRICS}
        wanted.add(("triton", "nv_inference_pending_request_count"))
        wait_until(lambda: rows.extend(log.drain()) or wanted <= {row[1:3] for row in rows})
    assert {row[2] for row in rows if row[1] == "container"} == CONTAINER_METRICS


@pytest.mark.no_gpu
def test_configurations_on_a_gpu_need_one(shared: tuple[ContainerServer, Control]) -> None:
    server, _ = shared
    with pytest.raises(EnvironmentFailedError, match="the server has no GPU"):
        require_gpus(server, [ServerConfiguration(model="identity", kind="gpu")])
