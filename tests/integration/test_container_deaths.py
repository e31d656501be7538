"""The ways in which a container fails while it serves: each is noticed within seconds, and named."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tritonclient.utils import InferenceServerException

from harness.errors import EnvironmentFailedError
from harness.servers.health import Health
from harness.servers.inquiry import answers
from tests.containers import MODELS, infer
from tests.footprint import freeze, thaw_when_silent, wait_until
from tests.python_models import HUNGRY, python_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import APIClient

    from tests.containers import Box

pytestmark = pytest.mark.long

NOTICED_S = 5.0


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


@pytest.mark.parametrize(
    ("end", "done"),
    [
        (lambda api, name: api.remove_container(name, force=True), "removed"),
        (lambda api, name: api.restart(name, timeout=0), "restarted"),
        (lambda api, name: api.stop(name, timeout=0), "stopped"),
    ],
    ids=["removed", "restarted", "stopped"],
)
def test_somebody_else_has_the_engine_end_the_container(
    box: Box, monkeypatch: pytest.MonkeyPatch, end: Callable[[APIClient, str], None], done: str
) -> None:
    """The server is looked at while the engine is at it: nothing but the ended process is to be seen yet."""
    if done == "restarted":  # by an engine that may be busy
        monkeypatch.setattr("harness.servers.container.server.RESTART_S", 30)
    with box.running(("identity",)) as (server, _):
        with ThreadPoolExecutor() as meanwhile:
            ended = meanwhile.submit(end, server.client.api, server.name)
            wait_until(server.failure, 60)
            ended.result()
        assert f"container {server.name} was {done} by somebody else" in server.failure()


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
        assert answers(server.endpoints, "/v2/health/ready", 30)
        with pytest.raises(InferenceServerException):
            infer(server, "identity", 1)
        assert infer(server, "null", 1) == 0


def test_out_of_memory_at_load(box: Box, tmp_path: Path) -> None:
    hungry = python_model(tmp_path, "hungry", HUNGRY.format(at_load_mib=500))
    with box.running({"hungry": hungry}, memory="256m") as (server, control):
        with pytest.raises(EnvironmentFailedError):
            control.load("hungry", deadline_s=60)
        wait_until(server.failure, NOTICED_S)
        said = server.failure()
        assert "the container reached its memory limit of 256 MiB and the kernel ended" in said


def test_out_of_memory_of_the_server_itself(box: Box) -> None:
    with box.running({"identity": MODELS / "identity"}, memory="6m") as (server, control):
        with pytest.raises(EnvironmentFailedError):
            control.load("identity", deadline_s=60)
        # What it says depends on which of the engine's two events arrives first, if it is asked in between.
        seen = server.watch
        wait_until(lambda: seen.out_of_memory.is_set() and seen.ended.is_set(), NOTICED_S)
        assert "memory limit of 6 MiB" in server.failure()
        assert "the kernel ended the server" in server.failure()


def test_out_of_memory_under_load(box: Box, tmp_path: Path) -> None:
    hungry = python_model(tmp_path, "hungry", HUNGRY.format(at_load_mib=1))
    with box.running({"hungry": hungry}, memory="256m") as (server, control):
        control.load("hungry", deadline_s=60)
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


def test_a_server_that_is_frozen(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    with box.running(("identity",)) as (server, _):
        assert server.main is not None
        health = Health(server)
        health.settle()
        freeze(server.main.pid)
        thawed = thaw_when_silent(server.main.pid, monkeypatch)
        assert health.failure() is None  # a short silence is waited for
        assert thawed
        assert infer(server, "identity", 2) == 2
        freeze(server.main.pid)  # for ever: SIGTERM will not do
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
