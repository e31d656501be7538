"""The embedded server's memory limit: held, noticed when it is reached, and gone with the server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from harness.errors import EnvironmentFailedError
from harness.scenario import ServerSpec
from harness.servers import leftovers, serving
from harness.servers.control import Control
from harness.servers.embedded import memory
from harness.servers.embedded.memory import find_cgroup
from harness.servers.health import Health
from harness.servers.home import home
from harness.servers.leftovers import reap
from harness.servers.staging import staged
from tests.footprint import Footprint, freeze, lives, wait_until
from tests.python_models import HUNGRY, python_model
from tests.servers import make_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.servers.embedded.server import EmbeddedServer

NOTICED_S = 5.0
LIMIT = "256m"


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch)


@pytest.fixture
def groups() -> Path:
    """The folder in which control groups come to be."""
    try:
        return find_cgroup().parent
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")


def ours(groups: Path) -> list[Path]:
    return list(groups.glob(f"{leftovers.PREFIX}test-*"))


@contextmanager
def hungry(
    folder: Path, *, at_load_mib: int, limit: str = LIMIT
) -> Iterator[tuple[EmbeddedServer, Control]]:
    """A limited server whose model takes memory; when the block ends, nothing of it may be left."""
    footprint = Footprint(os.getpid())
    models = {"hungry": python_model(folder, "hungry", HUNGRY.format(at_load_mib=at_load_mib))}
    with ExitStack() as stack:
        repository = stack.enter_context(staged(models, "test"))
        spec = ServerSpec.model_validate({"memory": limit})
        server = stack.enter_context(serving(spec, repository, logs=folder, run_id="test"))
        footprint.note()
        control = stack.enter_context(Control(server.endpoints, log=server.log))
        yield server, control  # type: ignore[misc]
        footprint.note()
    footprint.assert_gone()


def infer(server: EmbeddedServer, mebibytes: float) -> float:
    with triton.InferenceServerClient(server.endpoints.grpc) as client:
        tensor = triton.InferInput("X", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.array([[mebibytes]], np.float32))
        answer = client.infer("hungry", [tensor], client_timeout=60)
        return float(answer.as_numpy("Y")[0, 0])


def test_out_of_memory_at_load(own_home: Path, tmp_path: Path, groups: Path) -> None:
    with hungry(tmp_path, at_load_mib=500) as (server, control):
        assert server.describe()["memory"]["bytes"] == 256 << 20
        assert server.describe()["memory"]["how"] in {"cgroup v1", "cgroup v2"}
        assert len(ours(groups)) == 1
        with pytest.raises(EnvironmentFailedError):
            control.load("hungry", deadline_s=60)
        wait_until(server.failure, NOTICED_S)
        assert (server.failure() or "").startswith(
            "the server reached its memory limit of 256 MiB and the kernel ended one of its processes;"
            " its log ends:"
        )
    assert not ours(groups)


def test_out_of_memory_under_load(own_home: Path, tmp_path: Path, groups: Path) -> None:
    with hungry(tmp_path, at_load_mib=1) as (server, control):
        control.load("hungry", deadline_s=60)
        health = Health(server)
        health.settle()
        assert infer(server, 1) == 1
        assert health.failure() is None
        with pytest.raises(InferenceServerException):
            infer(server, 500)
        wait_until(health.failure, NOTICED_S)
        assert "memory limit of 256 MiB and the kernel ended" in (health.failure() or "")
    assert not ours(groups)


def test_without_a_control_group_address_space_is_limited(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> None:
        raise OSError("no memory controller is mounted")

    monkeypatch.setattr(memory, "find_cgroup", nowhere)
    with hungry(tmp_path, at_load_mib=1, limit="3g") as (server, control):
        assert server.describe()["memory"] == {"bytes": 3 << 30, "how": "address space"}
        control.load("hungry", deadline_s=60)
        assert infer(server, 1) == 1
        limits = {psutil.Process(pid).rlimit(psutil.RLIMIT_AS)[0] for _, pid in server.processes()}
        assert limits == {3 << 30}
        with pytest.raises(InferenceServerException, match="MemoryError"):
            infer(server, 4000)
        assert infer(server, 1) == 1


@pytest.mark.parametrize("guard_too", [False, True])
def test_a_killed_command_leaves_its_group_to_nobody(
    own_home: Path, groups: Path, *, guard_too: bool
) -> None:
    """The guard removes it; where the guard is killed too, the next start does."""
    models = Path(__file__).parents[1] / "models"
    command = ["serve", "identity", "-r", str(models), "--memory", "400m"]
    with subprocess.Popen(
        [sys.executable, "-m", "harness", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("HTTP")
            records = [json.loads(path.read_text()) for path in (home() / "running").glob("*.json")]
            (group,) = (Path(record["group"]) for record in records if record["group"])
            assert group.parent == groups
            inside = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
            assert len(inside) >= 2  # the server and its stub
            (server,) = (pid for pid in inside if psutil.Process(pid).name() == "tritonserver")
            guard = psutil.Process(server).ppid()
            if guard_too:
                freeze(guard)  # it must not see the pipe close first
            process.kill()
            process.wait()
            if guard_too:
                os.kill(guard, signal.SIGKILL)
                assert group.is_dir()
                assert f"removed control group {group.name}" in reap()
            wait_until(lambda: not group.exists(), 5)
            wait_until(lambda: not any(lives(pid) for pid in inside), 5)
        finally:
            process.kill()
    reap()
