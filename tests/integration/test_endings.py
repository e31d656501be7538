"""How ``harness run`` ends before its time: a model that does not load, an interrupt at every stage, SIGKILL."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from harness.servers.leftovers import reap
from tests.footprint import lives, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.commands import RunCommand

pytestmark = pytest.mark.long

KINDS = ("embedded", "container")


@pytest.mark.parametrize(("kind", "who"), [("embedded", "server"), ("container", "container")])
def test_memory_that_never_suffices_ends_the_run_with_the_reason(
    running: Callable[..., RunCommand], triton_models: Path, tmp_path: Path, kind: str, who: str
) -> None:
    """At load, each time anew: the configuration is given up after the second attempt."""
    models = tmp_path / "models"
    shutil.copytree(triton_models, models)
    with (models / "cnn" / "1" / "model.py").open("a") as file:
        file.write('\nPROVISIONS = b"x" * (2 << 30)\n')
    command = running(kind, more=", memory: 700m", models=models)
    command.reach("start")
    first = command.servers()
    # The second is to be looked for at the end, too.
    wait_until(lambda: command.process.poll() is not None or set(command.servers()) - {*first}, 120)
    command.note()
    _, stderr = command.end()
    assert command.process.returncode == 3, stderr
    assert f"the {who} reached its memory limit of 700 MiB and the kernel ended" in stderr
    assert "Traceback" not in stderr
    assert command.footprint.groups or kind == "container"
    command.assert_gone()


@pytest.mark.no_gpu
def test_a_gpu_that_the_engine_does_not_have_ends_the_run_with_the_reason(
    running: Callable[..., RunCommand],
) -> None:
    command = running("container", more=", gpus: all")
    _, stderr = command.end()
    assert command.process.returncode == 3, stderr
    said = " ".join(stderr.split())
    assert "server.gpus: the container engine has no GPU to give" in said
    assert "Container Toolkit for this engine, or leave gpus out" in said
    assert "Traceback" not in stderr
    assert command.status() == "failed"
    command.assert_nothing_left()


def broken_weights(model: Path) -> None:
    (model / "1" / "model.onnx").write_bytes(b"no ONNX")


def broken_code(model: Path) -> None:
    with (model / "1" / "model.py").open("a") as file:
        file.write('\nraise ValueError("from another planet")\n')


def bad_config(model: Path) -> None:
    """One that can be read, and that only the server can refuse."""
    with (model / "config.pbtxt").open("a") as file:
        file.write("version_policy { specific { versions: [7] } }\n")


def no_backend(model: Path) -> None:
    path = model / "config.pbtxt"
    path.write_text(path.read_text().replace('backend: "python"', 'backend: "nosuch"'))


def hanging_stub(model: Path) -> None:
    with (model / "1" / "model.py").open("a") as file:
        file.write(
            "\nimport time\n\nTritonPythonModel.initialize = lambda self, args: time.sleep(1000)\n"
        )


@pytest.mark.parametrize(
    ("kind", "spoil", "code", "said"),
    [
        ("embedded", broken_weights, 3, "model.onnx failed"),
        ("embedded", broken_code, 3, "from another planet"),
        ("embedded", bad_config, 3, "version policy"),
        ("embedded", no_backend, 3, "nosuch"),
        ("embedded", hanging_stub, 3, "no answer within 8 s"),
        ("container", broken_weights, 3, "model.onnx failed"),
        ("container", bad_config, 3, "version policy"),
        # An image is asked which backends it has, before a model is loaded.
        ("container", no_backend, 2, "the server has no backend nosuch, it has python"),
        ("container", hanging_stub, 3, "no answer within 8 s"),
    ],
)
def test_a_model_that_does_not_load_ends_the_run_with_the_reason(
    running: Callable[..., RunCommand],
    triton_models: Path,
    tmp_path: Path,
    kind: str,
    spoil: Callable[[Path], None],
    code: int,
    said: str,
) -> None:
    models = tmp_path / "models"
    shutil.copytree(triton_models, models)
    spoil(models / "cnn")
    # Long enough for the server itself, and for the probes, on a busy machine.
    more = ", ready_timeout: 8s" if spoil is hanging_stub else ""
    for _ in range(4):
        command = running(kind, more=more, models=models)
        command.watch()
        _, stderr = command.end()
        # Nothing was seen where this process was held up for as long as the server was there.
        if command.seen():
            break
    assert command.process.returncode == code, stderr
    words = " ".join(stderr.split())
    assert said in words
    assert ("loading cnn: " in words) == (code == 3)
    assert "Traceback" not in stderr
    assert command.status() == "failed"
    command.assert_gone()


HANGS_ONCE = """
import pathlib, time
_initialize = TritonPythonModel.initialize

def initialize(self, args):
    flag = pathlib.Path({flag!r})
    if not flag.exists():
        flag.touch()
        time.sleep(1000)
    _initialize(self, args)

TritonPythonModel.initialize = initialize
"""


def test_a_stub_that_hangs_once_is_given_a_fresh_server(
    running: Callable[..., RunCommand], triton_models: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(triton_models, models)
    with (models / "cnn" / "1" / "model.py").open("a") as file:
        file.write(HANGS_ONCE.format(flag=str(tmp_path / "hung")))
    command = running("embedded", more=", ready_timeout: 8s", models=models)
    command.watch()
    first = command.servers()
    wait_until(lambda: command.process.poll() is not None or set(command.servers()) - {*first}, 120)
    command.note()
    _, stderr = command.end()
    assert command.process.returncode in (0, 4), (
        stderr
    )  # 4 where this machine leaves no valid point
    failures = [trial.failure for trial in command.trials() if trial.failure]
    assert ["no answer within 8 s" in failure for failure in failures] == [True]
    assert command.status() == "complete"
    command.assert_gone()


LONG_STAGES = {
    "warm-up": "window: 1s, passes: 1, warmup_min: 60s, warmup_max: 90s",
    "window": "window: 90s, passes: 1, warmup_max: 300ms",
}
SHORT = "window: 300ms, passes: 1, sentinels: false"


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_leaves_nothing_to_the_next_start(
    running: Callable[..., RunCommand], kind: str
) -> None:
    command = running(kind, LONG_STAGES["window"])
    command.reach("window")
    command.process.kill()
    command.process.wait()
    pids = (
        command.footprint.pids
    )  # what runs in a container is not among them: that goes with the next start
    assert pids
    wait_until(lambda: not any(lives(pid) for pid in pids), 5, "its children")
    reap()
    command.assert_gone()


STAGES = ("set-up", "start", "warm-up", "window", "report")


@pytest.mark.parametrize(
    ("kind", "stage", "number"),
    [
        (kind, stage, number)
        for kind in KINDS
        for stage in STAGES
        for number in (signal.SIGINT, signal.SIGTERM)
    ],
)
def test_an_interrupt_ends_a_run_in_order(
    running: Callable[..., RunCommand], kind: str, stage: str, number: signal.Signals
) -> None:
    command = running(kind, LONG_STAGES.get(stage, SHORT))
    if stage == "report":
        command.reach("start")  # to see what it has started
        # It cannot be through with its report before it is interrupted: nobody reads what it writes at last.
        (run,) = command.reports.iterdir()
        os.mkfifo(run / ".index.html.partial")
    command.reach(stage)
    if stage == "window":
        time.sleep(2)
    _, stderr = command.end(number)
    assert command.process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert len(command.trials()) == (1 if stage == "report" else 0)
    if stage != "report":
        assert "interrupted before anything was measured" in stderr
        assert command.status() == "interrupted"
    if stage == "set-up":  # nothing may have been started yet
        command.assert_nothing_left()
    else:
        command.assert_gone()
