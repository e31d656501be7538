from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import processes
from harness.errors import EnvironmentFailedError
from tests.footprint import wait_until

ENV = {"PATH": os.environ["PATH"]}


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "child.log"


def finished(child: processes.ChildProcess) -> int | None:
    wait_until(lambda: child.poll() is not None)
    return child.poll()


def test_status_and_output_are_those_of_the_command(log: Path) -> None:
    child = processes.start(
        ["sh", "-c", "echo $MARK; echo wrong >&2; exit 7"], env=ENV | {"MARK": "m"}, log=log
    )
    assert finished(child) == 7
    assert log.read_text() == "m\nwrong\n"


def test_a_command_that_was_killed_says_by_what(log: Path) -> None:
    child = processes.start(["sleep", "60"], env=ENV, log=log)
    assert child.poll() is None
    # The kernel names a program a moment after it has closed what its starter waits for.
    wait_until(lambda: psutil.Process(child.pid).name() == "sleep")
    os.kill(child.pid, signal.SIGKILL)
    assert finished(child) == -signal.SIGKILL


def test_a_command_is_known_to_have_ended_at_once(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sees its connection break and asks, must not hear that it still runs."""
    monkeypatch.setattr(processes, "BURIAL_S", 60.0)  # its guard may be held up
    for _ in range(20):
        child = processes.start(["sleep", "60"], env=ENV, log=log)
        pidfd = os.pidfd_open(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        select.select([pidfd], [], [])
        assert child.poll() == -signal.SIGKILL
        os.close(pidfd)


def test_the_environment_is_exactly_what_was_given(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_SECRET", "s")
    child = processes.start(["env"], env=ENV, log=log)
    finished(child)
    assert log.read_text().splitlines() == [f"PATH={ENV['PATH']}"]


def test_stop_gives_the_command_time_to_end_in_order(log: Path) -> None:
    script = "import signal,sys,time\nsignal.signal(15, lambda *_: (time.sleep(.3), print('bye'), sys.exit(3)))\nprint('up', flush=True)\ntime.sleep(60)"
    child = processes.start([sys.executable, "-c", script], env=ENV, log=log)
    wait_until(lambda: "up" in log.read_text())
    assert child.stop(10) == 3
    assert "bye" in log.read_text()
    assert child.stop(10) == 3


def test_stop_kills_what_does_not_listen_and_its_whole_group(log: Path) -> None:
    child = processes.start(
        ["sh", "-c", "trap '' TERM; sleep 61 & echo $!; while :; do wait; done"], env=ENV, log=log
    )
    wait_until(lambda: log.read_text().strip())
    grandchild = int(log.read_text())
    assert child.stop(0.2) == -signal.SIGKILL
    assert gone(child.pid)
    assert gone(grandchild)


def test_kill_does_not_wait(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "BURIAL_S", 60.0)  # its guard may be held up
    child = processes.start(
        ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], env=ENV, log=log
    )
    wait_until(lambda: "up" in log.read_text())
    started = time.monotonic()
    assert child.kill() in {-signal.SIGKILL, -signal.SIGTERM}
    assert time.monotonic() - started < processes.BURIAL_S


def test_the_group_ends_with_its_leader(log: Path) -> None:
    child = processes.start(["sh", "-c", "sleep 62 & echo $!; exit 0"], env=ENV, log=log)
    assert finished(child) == 0
    assert gone(int(log.read_text()))


def test_a_child_has_a_session_of_its_own(log: Path) -> None:
    child = processes.start(["sleep", "63"], env=ENV, log=log)
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
        assert os.getsid(psutil.Process(child.pid).ppid()) != os.getsid(0)
    finally:
        child.kill()


def test_shared_memory_of_the_run_and_no_other_is_removed(log: Path) -> None:
    ours, other = (
        Path(f"/dev/shm/harness-test-{os.getpid()}-a"),
        Path(f"/dev/shm/harness-other-{os.getpid()}"),
    )
    try:
        other.touch()
        child = processes.start(
            ["touch", str(ours)], env=ENV, log=log, shm_prefix=f"harness-test-{os.getpid()}-"
        )
        assert finished(child) == 0
        assert not ours.exists()
        assert other.exists()
    finally:
        other.unlink(missing_ok=True)
        ours.unlink(missing_ok=True)


def test_cores_are_those_asked_for(log: Path) -> None:
    core = min(os.sched_getaffinity(0))
    child = processes.start(["sleep", "64"], env=ENV, log=log, cpus=(core,))
    try:
        assert os.sched_getaffinity(child.pid) == {core}
    finally:
        child.kill()


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        (["no-such-program"], {}, "no-such-program"),
        (["true"], {"cwd": Path("/no/such/folder")}, "/no/such/folder"),
        (["true"], {"cpus": (100_000,)}, "Invalid argument"),
    ],
)
def test_what_cannot_be_started_is_one_sentence(
    log: Path, command: list[str], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(EnvironmentFailedError, match=said):
        processes.start(command, env=ENV, log=log, **options)


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailedError, match="No such file"):
        processes.start(["true"], env=ENV, log=tmp_path / "no" / "log")


PARENT = """
import os, sys, time
from pathlib import Path
from harness import processes
child = processes.start(["sh", "-c", sys.argv[1]], env=dict(os.environ), log=Path(sys.argv[2]),
    shm_prefix=sys.argv[3], folders=[Path(sys.argv[4])])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("listens", [True, False])
def test_a_killed_parent_leaves_nothing(tmp_path: Path, log: Path, listens: bool) -> None:
    region = Path(f"/dev/shm/harness-orphan-{os.getpid()}")
    folder = tmp_path / "staged"
    folder.mkdir()
    (folder / "file").touch()
    trap = "" if listens else "trap '' TERM;"
    script = f"{trap} touch {region}; sleep 65 & echo $!; while :; do sleep 1; done"
    arguments = [script, str(log), region.name, str(folder)]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments], stdout=subprocess.PIPE
    ) as parent:
        child = int(parent.stdout.readline())
        wait_until(lambda: log.exists() and log.read_text().strip())
        grandchild = int(log.read_text().split()[0])
        guard = psutil.Process(child).ppid()
        parent.kill()
    wait_until(lambda: gone(child) and gone(grandchild) and gone(guard), timeout_s=5)
    assert not region.exists()
    assert not folder.exists()


def test_a_killed_guard_is_noticed_and_its_group_ended(log: Path) -> None:
    child = processes.start(["sleep", "66"], env=ENV, log=log)
    os.kill(psutil.Process(child.pid).ppid(), signal.SIGKILL)
    assert finished(child) == -signal.SIGKILL
    wait_until(lambda: gone(child.pid))


def test_ten_thousand_variables_fit_through_the_pipe(log: Path) -> None:
    env = ENV | {f"VARIABLE_{number}": "x" * 100 for number in range(10_000)}
    child = processes.start(["sh", "-c", "env | grep -c VARIABLE_"], env=env, log=log)
    assert finished(child) == 0
    assert log.read_text() == "10000\n"


def test_log_tail_gives_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"line %d \xff\n\n" % number for number in range(100_000)))
    assert processes.log_tail(log, 2) == "line 99998 �\nline 99999 �"
    assert processes.log_tail(tmp_path / "none") == ""


def test_as_many_files_may_be_open_as_the_system_lets_it(log: Path) -> None:
    """Not as few as a shell says: each user has a socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard))
    try:
        child = processes.start(["sh", "-c", "ulimit -n"], env=ENV, log=log)
        assert finished(child) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert int(log.read_text()) == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
