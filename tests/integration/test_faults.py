"""What breaks while a run measures is named in its trial, and the run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from harness.archive import open_run
from tests.footprint import Footprint, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.records import TrialRecord

SCENARIO = """\
model: cnn
sweep: {instances: [1], concurrency: [4]}
measure: {window: 1500ms, passes: 2}
"""
NOTICED_S = 5.0


def kill_server(footprint: Footprint) -> None:
    os.kill(next(iter(footprint.servers)), signal.SIGKILL)


def kill_stub(footprint: Footprint) -> None:
    os.kill(stubs_of(footprint)[-1], signal.SIGKILL)


def freeze_server(footprint: Footprint) -> None:
    os.kill(next(iter(footprint.servers)), signal.SIGSTOP)


def stubs_of(footprint: Footprint) -> list[int]:
    """The newest last."""
    children = psutil.Process(next(iter(footprint.servers))).children(recursive=True)
    stubs = [child for child in children if child.name().startswith("triton_python_b")]
    return [stub.pid for stub in sorted(stubs, key=psutil.Process.create_time)]


def trials(reports: Path) -> list[TrialRecord]:
    runs = list(reports.glob("*/run.json"))
    return open_run(runs[0].parent).trials() if runs else []


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (kill_server, "the server was ended by SIGKILL"),
        (kill_stub, "the Python stub of cnn_0_0"),
        (freeze_server, "the server has not answered for"),
    ],
)
def test_a_fault_in_a_trial(
    triton_models: Path, tmp_path: Path, fault: Callable[[Footprint], None], cause: str
) -> None:
    scenario, reports = tmp_path / "faults.yaml", tmp_path / "reports"
    scenario.write_text(SCENARIO)
    options = ["--models", str(triton_models), "--output", str(reports)]
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(scenario), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    footprint = Footprint(process.pid, others=set())
    try:
        wait_until(lambda: trials(reports), timeout_s=120)
        footprint.note()
        assert len(footprint.servers) == 1
        time.sleep(0.5)
        before = len(trials(reports))
        fault(footprint)
        struck = time.monotonic()
        wait_until(lambda: len(trials(reports)) > before, timeout_s=30)
        noticed_s = time.monotonic() - struck
        wait_until(lambda: len(trials(reports)) > before + 1 or process.poll() is not None, 90)
        footprint.note()
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in {0, 4}, stderr
    measured = trials(reports)
    broken = [trial for trial in measured if trial.failure]
    assert [cause in (trial.failure or "") for trial in broken] == [True]
    assert noticed_s < 2 * NOTICED_S  # this machine may be busy
    again = measured[measured.index(broken[0]) + 1]
    assert again.point == broken[0].point
    assert again.pass_index == broken[0].pass_index
    assert again.failure is None
    points = [trial for trial in measured if trial.role == "point" and not trial.failure]
    assert [trial.pass_index for trial in points] == [0, 1]
    assert len(footprint.servers) == 2
    footprint.assert_gone(files=False)
