"""Child processes that never outlive the command that started them.

Each child runs under :mod:`harness.guard`: in a session of its own, out of reach of a terminal's Ctrl-C,
and ended with its whole process group when this process ends, be it by SIGKILL. Its output goes to a log
file. There is no ``preexec_fn`` (unsafe beside gRPC's threads) and no PDEATHSIG (which follows the thread
that forked, not the process).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ChildProcess", "log_tail", "start"]

GUARD = Path(__file__).with_name("guard.py")
START_TIMEOUT_S = 20.0  # a guard needs 50 ms on a quiet machine
BURIAL_S = 5.0  # what a guard may take beyond the grace it was given


class ChildProcess:
    """A command that runs under a guard.

    Attributes:
        pid: of the command itself, which is also its process group's number.
        log: the file that its output goes to.
    """

    def __init__(self, guard: subprocess.Popen[bytes], log: Path) -> None:
        self.log = log
        self._guard = guard
        self._heard = b""
        self._status: int | None = None
        self._polling = threading.Lock()  # telemetry and whoever watches have threads of their own
        self.pid = self._first_answer()

    def poll(self) -> int | None:
        """Return ``None`` while the command runs, then its exit status, -N where signal N ended it."""
        with self._polling:
            if self._status is None and not _runs(self.pid):
                # The guard needs a moment to end the rest of its group.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._guard.wait(BURIAL_S)
            if self._status is None and self._guard.poll() is not None:
                self._status = self._last_answer()
            return self._status

    def stop(self, grace_s: float) -> int | None:
        """End the command in order: SIGTERM, up to ``grace_s`` seconds, then SIGKILL to its group.

        Returns:
            Its exit status; ``None`` where even SIGKILL did not end it within seconds.
        """
        try:
            self._order(grace_s)
            self._guard.wait(max(grace_s, 0.0) + BURIAL_S)
        except subprocess.TimeoutExpired:
            self._end_all()
        except BaseException:
            # A second Ctrl-C ends the grace; the guard still removes what the command leaves.
            self._order(0.0)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(BURIAL_S)
            raise
        return self.poll()

    def kill(self) -> int | None:
        """End the command and its group at once; return its exit status."""
        return self.stop(0.0)

    def _order(self, grace_s: float) -> None:
        """Tell the guard to stop the command within ``grace_s``; the guard may have gone already."""
        stdin = self._guard.stdin
        if stdin is None or stdin.closed:
            return
        with contextlib.suppress(OSError):
            stdin.write(f"stop {max(grace_s, 0.0):.3f}\n".encode())
            stdin.flush()

    def _end_all(self) -> None:
        """End the group and the guard by force, where the guard has not done it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._guard.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(BURIAL_S)

    def _first_answer(self) -> int:
        deadline = time.monotonic() + START_TIMEOUT_S
        stdout = self._guard.stdout
        assert stdout is not None  # noqa: S101 - it was started with a pipe
        while b"\n" not in self._heard:
            left_s = deadline - time.monotonic()
            ready, _, _ = select.select([stdout], [], [], max(left_s, 0.0))
            data = os.read(stdout.fileno(), 4096) if ready else b""
            if not data:
                break
            self._heard += data
        word, _, rest = self._heard.partition(b"\n")[0].decode(errors="replace").partition(" ")
        if word == "pid":
            return int(rest)
        reason = rest if word == "error" else log_tail(self.log, 5) or "its guard did not answer"
        raise EnvironmentFailedError(f"a process cannot be started ({reason})")

    def _last_answer(self) -> int:
        stdout = self._guard.stdout
        assert stdout is not None  # noqa: S101 - it was started with a pipe
        while data := os.read(stdout.fileno(), 4096):
            self._heard += data
        stdout.close()
        if self._guard.stdin is not None:
            with contextlib.suppress(OSError):
                self._guard.stdin.close()
        for line in self._heard.decode(errors="replace").splitlines():
            if line.startswith("status "):
                return int(line.removeprefix("status "))
        # The guard itself was killed, so nobody has ended the group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return -signal.SIGKILL


def _runs(pid: int) -> bool:
    """Whether a process is there and has not ended; until its guard buries it, it is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path | None = None,
    shm_prefix: str | None = None,
    cpus: tuple[int, ...] = (),
    folders: Sequence[Path] = (),
    memory: Mapping[str, Any] | None = None,
) -> ChildProcess:
    """Start ``command`` so that it ends when this process does.

    Args:
        command: program and arguments; no shell is involved.
        env: the command's whole environment.
        log: file that its standard output and error are appended to.
        cwd: its working directory; this process's where ``None``.
        shm_prefix: entries of ``/dev/shm`` whose names begin so are removed when it has ended.
        cpus: the cores it may run on; all where empty.
        folders: temporary folders to remove if this process dies without stopping it.
        memory: its limit: ``group`` and ``home``, folders of control groups, the one to run in, removed if
            this process dies without stopping it, and this process's own; or ``address_space`` in bytes.

    Raises:
        EnvironmentFailedError: the program cannot be started, or the log not be written.
    """
    task = {
        "command": list(command),
        "env": dict(env),
        "cwd": str(cwd) if cwd else None,
        "shm_prefix": shm_prefix,
        "cpus": list(cpus),
        "folders": [str(folder) for folder in folders],
        "memory": dict(memory or {}),
    }
    try:
        with log.open("ab") as file:
            guard = subprocess.Popen(
                [sys.executable, "-I", str(GUARD), Path(command[0]).name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
            )
    except OSError as error:
        raise EnvironmentFailedError(
            f"a process cannot be started ({error.strerror or error})", where=str(log)
        ) from error
    try:
        assert guard.stdin is not None  # noqa: S101 - it was started with a pipe
        guard.stdin.write(json.dumps(task).encode() + b"\n")
        guard.stdin.flush()
        return ChildProcess(guard, log)
    except BaseException:
        # The guard takes a closed pipe for our death, and ends whatever it has started.
        for pipe in (guard.stdin, guard.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(BURIAL_S)
        raise


def log_tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log as text, whatever its size; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
