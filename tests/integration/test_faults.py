"""What breaks while a run measures is named in its trial, the server comes back, and the run goes on."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.archive import open_run
from tests.commands import assert_noticed
from tests.footprint import lives, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient

    from tests.commands import RunCommand

pytestmark = [pytest.mark.alone, pytest.mark.long]

KINDS = ("embedded", "container")


def see_it_through(
    command: RunCommand,
    cause: str,
    find: Callable[[], int],
    strike: Callable[[int], None],
    *,
    dies_later: bool = False,
) -> None:
    """What is done to a process breaks a trial, which is named, repeated once, and does not end the run.

    With ``dies_later`` the fault is the end of that process, some time after ``strike``.
    """
    wait_until(lambda: command.trials() or command.process.poll() is not None, timeout_s=120)
    assert command.process.poll() is None, command.process.communicate()
    first = command.server()
    victim = find()
    time.sleep(1)  # the next trial is under way, and its window does not end for two seconds more
    before = len(command.trials())
    struck_ns = time.monotonic_ns()
    strike(victim)
    while dies_later and lives(victim):
        struck_ns = time.monotonic_ns()
        time.sleep(0.01)
    wait_until(lambda: any(trial.failure for trial in command.trials()), timeout_s=60)
    # What comes in its place is to be looked for at the end, too.
    wait_until(lambda: command.process.poll() is not None or set(command.servers()) - {first}, 60)
    command.note()
    _, stderr = command.end()
    assert command.process.returncode in {0, 4}, stderr
    trials = command.trials()
    broken = [trial for trial in trials if trial.failure]
    assert [cause in (trial.failure or "") for trial in broken] == [True], broken
    assert "; its log ends:\n" in (broken[0].failure or "")
    assert trials.index(broken[0]) >= before
    assert_noticed(broken[0], struck_ns)
    if broken[0].level_start_ns is not None:  # what was sent until then is kept
        run = open_run(next(command.reports.glob("*/run.json")).parent)
        assert len(run.samples(broken[0].index)) > 0
    again = trials[trials.index(broken[0]) + 1]
    assert (again.point, again.pass_index) == (broken[0].point, broken[0].pass_index)
    assert again.failure is None
    assert [trial.pass_index for trial in trials if not trial.failure] == [0, 1, 2]
    assert_said(next(command.reports.glob("*/summary.json")), broken[0].point.key, cause)
    command.assert_gone()


def assert_said(summary: Path, struck: str, cause: str) -> None:
    """A trial that was repeated is no doubt about its point; that something broke is said, with the cause.

    Other doubts are allowed: the machine may be too busy for steady passes.
    """
    told = json.loads(summary.read_text())
    (point,) = (each for each in told["points"] if each["point"] == struck)
    assert point["verdict"] != "trial failed", point
    for reasons in (point["reasons"], told["verdict"]["reasons"]):
        (said,) = (reason for reason in reasons if "broke and was repeated" in reason)
        assert said.startswith("1 trial broke and was repeated: ")
        assert cause.strip() in said
        assert "log ends" not in said
        assert "\n" not in said


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_is_killed(running: Callable[..., RunCommand], kind: str) -> None:
    command = running(kind)
    see_it_through(command, "was ended by SIGKILL", command.server, kill)


@pytest.mark.parametrize("done", ["restarted", "removed", "stopped"])
def test_somebody_else_has_the_engine_end_the_container(
    running: Callable[..., RunCommand], container_engine: DockerClient, done: str
) -> None:
    command, api = running("container"), container_engine.api

    def strike(server: int) -> None:
        states = {one["Id"]: api.inspect_container(one["Id"])["State"] for one in api.containers()}
        (container,) = (one for one, state in states.items() if state["Pid"] == server)
        if done == "restarted":
            api.restart(container, timeout=0)
        elif done == "removed":
            api.remove_container(container, force=True)
        else:
            api.stop(container, timeout=0)

    # One that a busy engine starts again too late counts as stopped.
    cause = "" if done == "restarted" else f"was {done} "
    see_it_through(command, f"{cause}by somebody else", command.server, strike)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stub_is_killed_while_readiness_stays_green(
    running: Callable[..., RunCommand], kind: str
) -> None:
    command = running(kind)
    see_it_through(command, "the Python stub of cnn_0_0", lambda: command.stubs()[-1], kill)


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_is_frozen_for_ever(running: Callable[..., RunCommand], kind: str) -> None:
    command = running(kind)
    see_it_through(command, "the server has not answered for", command.server, stop)


def test_the_server_is_frozen_while_its_load_changes(running: Callable[..., RunCommand]) -> None:
    """Users that wait for answers wait for nobody: no time-out of a request has to pass."""
    command = running("embedded", "window: 300ms, passes: 40, warmup_min: 50ms, warmup_max: 100ms")
    wait_until(lambda: len(command.trials()) > 3, 120)
    server, struck_ns = command.server(), time.monotonic_ns()
    stop(server)
    wait_until(lambda: any(trial.failure for trial in command.trials()), timeout_s=60)
    (broken,) = (trial for trial in command.trials() if trial.failure)
    assert_noticed(broken, struck_ns)  # a request's time-out is 30 s
    wait_until(lambda: command.trials()[-1].failure is None, 60)
    command.note()
    command.end(signal.SIGINT)
    assert command.process.returncode == 130
    command.assert_gone()


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_is_frozen_for_three_seconds(
    running: Callable[..., RunCommand], kind: str
) -> None:
    """It is noted, the window shows it, and the server is not given up."""
    for _ in range(4):
        command = running(kind, "window: 12s, passes: 1, warmup_max: 300ms, sentinels: false")
        command.reach("window")
        server = command.server()
        time.sleep(4)  # until the warm-up has passed
        stop(server)
        struck = time.monotonic()
        time.sleep(3)
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGCONT)
        frozen_s = time.monotonic() - struck
        _, stderr = command.end()
        if frozen_s < 3.3:  # else this process was held up itself, and the server may be given up
            break
    assert command.process.returncode == 4, stderr  # its one point is not valid
    (trial,) = command.trials()
    assert trial.failure is None
    assert trial.notes
    # There may be another of a moment in which the command was held up itself.
    assert all(note.startswith("the server did not answer for ") for note in trial.notes)
    rows = next(command.reports.glob("*/summary.csv")).read_text()
    assert "nothing was answered for" in rows
    command.assert_gone()


@pytest.mark.parametrize(("kind", "who"), [("embedded", "server"), ("container", "container")])
def test_memory_runs_out_under_load(
    running: Callable[..., RunCommand], triton_models: Path, tmp_path: Path, kind: str, who: str
) -> None:
    models, flag = tmp_path / "models", Path("/tmp") / f"eat-{secrets.token_hex(8)}"
    shutil.copytree(triton_models, models)
    with (models / "cnn" / "1" / "model.py").open("a") as file:
        file.write(GLUTTON.format(flag=str(flag)))
    command = running(kind, more=", memory: 700m", models=models)
    said = f"the {who} reached its memory limit of 700 MiB and the kernel ended"

    def tempt(stub: int) -> None:
        Path(f"/proc/{stub}/root{flag}").touch()  # where the stub sees it

    see_it_through(command, said, lambda: command.stubs()[-1], tempt, dies_later=True)
    assert command.footprint.groups or kind == "container"  # one was there, and is gone


GLUTTON = """

import os

execute = TritonPythonModel.execute


def gluttonous(self, requests):
    if os.path.exists({flag!r}):
        os.remove({flag!r})
        self.eaten = b"x" * (2 << 30)
    return execute(self, requests)


TritonPythonModel.execute = gluttonous
"""
