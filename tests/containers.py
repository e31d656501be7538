"""A real container engine for tests: found or skipped, with the image that is made here, and its traces."""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from docker.errors import NotFound

from harness.errors import EnvironmentFailedError
from harness.scenario import ServerSpec
from harness.servers import leftovers, serving
from harness.servers.container import engine
from harness.servers.container.server import ContainerServer
from harness.servers.control import Control
from harness.servers.home import home
from harness.servers.readings.cgroup import find_control_group
from harness.servers.staging import staged
from tests.footprint import assert_in_time, listens, lives, values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docker import DockerClient

log = logging.getLogger(__name__)  # --log-cli-level=INFO shows how long the image took
ROOT = Path(__file__).parents[1]
MODELS = ROOT / "tests" / "models"
PROXIES = "docker-proxy"


def connected() -> DockerClient:
    """A client of the engine; without one the test is skipped (and so fails in CI)."""
    try:
        return engine.connect()
    except EnvironmentFailedError as error:
        pytest.skip(f"no container engine: {error}")


def built_image() -> str:
    """The name of the image with the real Triton, made first where it is missing."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "image" / "build.py"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if said := done.stderr.strip():  # nothing where it was there already
        log.info(said)
    return done.stdout.strip()


@dataclass
class Traces:
    """What a container puts into the engine and into this machine, before and after."""

    client: DockerClient
    temporary: Path
    before: dict[str, set[str]] = field(default_factory=dict)
    pids: set[int] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    groups: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.before = self._now()

    def _now(self) -> dict[str, set[str]]:
        api = self.client.api
        return {
            "containers": {one["Id"] for one in api.containers(all=True)},
            "volumes": {one["Name"] for one in api.volumes()["Volumes"] or []},
            "networks": {one["Id"] for one in api.networks()},
            "images": {one["Id"] for one in api.images(all=True)},
            "temporary": {str(path) for path in self.temporary.glob(f"{leftovers.PREFIX}*")},
            "records": {str(path) for path in (home() / "running").glob("*")},
            "regions": {
                entry.name
                for entry in Path("/dev/shm").iterdir()
                if entry.name.startswith("triton_python_backend_shm_region")
            },
        }

    def note(self) -> Traces:
        """Add the processes, ports and control groups of the containers that have come since."""
        for one in self.client.api.containers():
            if one["Id"] in self.before["containers"]:
                continue
            try:
                attributes = self.client.api.inspect_container(one["Id"])
            except NotFound:  # it has just gone
                continue
            main = attributes["State"]["Pid"]
            if main:
                self.pids |= {main, *tree(main)}
                group = find_control_group(main)
                # Its name holds the container's id: this is not the one of who has come to that number since.
                if group and one["Id"] in str(group.memory):
                    self.groups.add(group.memory.parent)
            if attributes["HostConfig"]["NetworkMode"] == "host":  # nothing is published then
                command = attributes["Config"]["Cmd"] or []
                for kind in ("http", "grpc", "metrics"):
                    self.ports |= {int(port) for port in values(command, f"--{kind}-port")}
            bindings = (attributes["NetworkSettings"]["Ports"] or {}).values()
            self.ports |= {int(b["HostPort"]) for some in bindings for b in some or []}
        for process in psutil.process_iter(["name", "cmdline"]):
            words = process.info["cmdline"] or []
            if process.info["name"] == PROXIES and self.ports & set(map(numeric, words)):
                self.pids.add(process.pid)
        return self

    def left(self) -> list[str]:
        """What is still there, in words."""
        now = self._now()
        found = [f"{kind}: {name}" for kind in now for name in now[kind] - self.before[kind]]
        found += [f"process {pid}" for pid in self.pids if lives(pid)]
        found += [f"control group {group}" for group in self.groups if group.exists()]
        return found + [f"port {port}" for port in self.ports if listens(port)]

    def assert_gone(self, timeout_s: float = 5.0) -> None:
        """Fail where anything is left after ``timeout_s``."""
        assert_in_time(self.left, timeout_s)


def tree(pid: int) -> set[int]:
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def numeric(word: str) -> int:
    return int(word) if word.isdecimal() else -1


@dataclass
class Box:
    """What the tests start containers with."""

    client: DockerClient
    image: str
    logs: Path
    temporary: Path

    def spec(self, **spec: Any) -> ServerSpec:
        return ServerSpec.model_validate({"kind": "container", "image": self.image, **spec})

    def traces(self) -> Traces:
        return Traces(self.client, self.temporary)

    @contextmanager
    def running(
        self, models: Mapping[str, Path] | tuple[str, ...] = (), **spec: Any
    ) -> Iterator[tuple[ContainerServer, Control]]:
        """A server with models loaded; when the block ends, nothing of it may be left."""
        folders = {name: MODELS / name for name in models} if isinstance(models, tuple) else models
        traces = self.traces()
        with ExitStack() as stack:
            stack.callback(traces.assert_gone)
            asked = self.spec(**spec)
            repository = stack.enter_context(staged(folders, "test"))
            server = stack.enter_context(serving(asked, repository, logs=self.logs, run_id="test"))
            assert isinstance(server, ContainerServer)
            at = server.endpoints
            traces.ports |= {at.http_port, at.grpc_port, at.metrics_port or 0}
            control = stack.enter_context(Control(at, log=server.log))
            for name in folders if isinstance(models, tuple) else ():
                control.load(name, deadline_s=60)
            traces.note()
            assert traces.pids
            yield server, control
            traces.note()


def own_box(client: DockerClient, image: str, folder: Path, patch: pytest.MonkeyPatch) -> Box:
    """A box whose home and temporary folder are the test's own."""
    for name in ("home", "tmp", "logs"):
        (folder / name).mkdir()
    patch.setenv("TRITON_HARNESS_HOME", str(folder / "home"))
    patch.setenv("TMPDIR", str(folder / "tmp"))
    patch.setattr("tempfile.tempdir", None)
    return Box(client, image, folder / "logs", folder / "tmp")


def infer(server: ContainerServer, name: str, x: float, timeout_s: float = 10) -> float:
    with triton.InferenceServerClient(server.endpoints.grpc) as client:
        tensor = triton.InferInput("X", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.array([[x]], np.float32))
        return float(client.infer(name, [tensor], client_timeout=timeout_s).as_numpy("Y")[0, 0])
