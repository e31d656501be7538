"""A tiny program that keeps one command, and ends it when whoever asked for it is gone.

It is run as ``python -I guard.py LABEL`` by :mod:`harness.processes`, with the standard library alone.
Its standard input is the pipe to its parent: the first line is a JSON object that says what to run, each
later line is an order (``stop SECONDS``), and its end means that the parent has died, by SIGKILL too.
Its standard output answers with ``pid N`` (or ``error TEXT``) and, at the end, ``status N``.

The command runs in a session of its own, so that a terminal's Ctrl-C does not reach it. Whatever way it
ends, its whole process group ends with it, and shared memory with the run's prefix is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["GRACE_S", "main"]

GRACE_S = 2.0  # how long an orphaned command may take to end by itself
OPEN_FILES = 65_536  # a socket a user, and a usual shell allows 1,024
LAST_S = 2.0  # how long the kernel may take to bury what was killed
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it, not a temporary file of ours


class Orders:
    """Lines that arrive on a pipe, without ever waiting for one that has not come."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.ended = False
        self._buffer = b""

    def receive(self) -> list[str]:
        """Read what is there; return the whole lines in it. Sets ``ended`` at the end of the pipe."""
        data = os.read(self.descriptor, 1 << 16)
        if not data:
            self.ended = True
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [line.decode() for line in lines]


def _answer(text: str) -> None:
    """Tell the parent; it may be gone."""
    with contextlib.suppress(OSError):
        os.write(1, text.encode() + b"\n")


def _has_exited(pid: int) -> bool:
    """Whether a child has ended, without burying it: until then its group's number stays ours."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(send: Callable[[int, int], None], pid: int, number: int) -> bool:
    """Send a signal; return whether there was anyone to receive it."""
    try:
        send(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _has_members(group: int) -> bool:
    """Whether a process group has live members; what waits for its parent to bury it is not one."""
    if not _signal(os.killpg, group, 0):
        return False
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, member_of = stat.read_text().rpartition(") ")[2].split(" ", 3)[:3]
            if int(member_of) == group and state not in "ZX":
                return True
    return False


def _watch(child: subprocess.Popen[bytes], orders: Orders, wake: int) -> None:
    """Return when the command has ended, by itself or because it was told to."""
    kill_at: float | None = None
    while not _has_exited(child.pid):
        now = time.monotonic()
        if kill_at is not None and now >= kill_at:
            _signal(os.killpg, child.pid, signal.SIGKILL)
            kill_at = now + LAST_S
        sources = [wake] if orders.ended else [wake, orders.descriptor]
        ready, _, _ = select.select(sources, [], [], None if kill_at is None else kill_at - now)
        grace_s = None
        if wake in ready and signal.SIGTERM in os.read(wake, 64):
            grace_s = GRACE_S
        if orders.descriptor in ready:
            for line in orders.receive():
                grace_s = float(line.removeprefix("stop "))
            if orders.ended:
                grace_s = min(GRACE_S, GRACE_S if grace_s is None else grace_s)
        if grace_s is not None:
            if kill_at is None:
                _signal(os.kill, child.pid, signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            kill_at = deadline if kill_at is None else min(kill_at, deadline)


def _bury(child: subprocess.Popen[bytes]) -> int:
    """End what is left of the command's group and return the command's status."""
    _signal(os.killpg, child.pid, signal.SIGKILL)
    status = child.wait()
    deadline = time.monotonic() + LAST_S
    while _has_members(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return status


def _allow_open_files() -> None:
    """Let the command open as many files as it needs, or as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _limited(memory: dict[str, Any]) -> Iterator[None]:
    """Let the command inherit a limit on memory that this program is free of again afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        if "group" in memory:
            Path(memory["group"], "cgroup.procs").write_text("0", encoding="ascii")
        if "address_space" in memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory["address_space"], hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        if "group" in memory:
            Path(memory["home"], "cgroup.procs").write_text("0", encoding="ascii")


def _remove_group(group: Path) -> None:
    """Remove a control group as soon as the kernel has buried what was in it."""
    deadline = time.monotonic() + LAST_S
    while group.is_dir() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.01)


def _clean(shm_prefix: str | None, folders: list[str], group: str | None) -> None:
    if shm_prefix and SHARED_MEMORY.is_dir():
        for entry in SHARED_MEMORY.iterdir():
            if entry.name.startswith(shm_prefix):
                entry.unlink(missing_ok=True)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if group:
        _remove_group(Path(group))


def main() -> int:
    """Run the command until it ends or must end; return its status, 128 + N where signal N ended it."""
    orders = Orders(0)
    lines: list[str] = []
    while not lines and not orders.ended:
        lines = orders.receive()
    if not lines:
        return 0
    task = json.loads(lines[0])
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    # A handler, not SIG_IGN: what is ignored stays ignored in the command.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        if task["cpus"]:
            os.sched_setaffinity(0, task["cpus"])
        _allow_open_files()
        with _limited(task["memory"]):
            child = subprocess.Popen(
                task["command"],
                env=task["env"],
                cwd=task["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=2,
                stderr=2,
                start_new_session=True,
            )
    except OSError as error:
        _answer(f"error {error.strerror or error}: {error.filename or task['command'][0]}")
        return 127
    _answer(f"pid {child.pid}")
    try:
        _watch(child, orders, wake)
    finally:
        status = _bury(child)
    orphaned = orders.ended  # else the parent still wants to read why it ended
    group = task["memory"].get("group") if orphaned else None
    _clean(task["shm_prefix"], task["folders"] if orphaned else [], group)
    _answer(f"status {status}")
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main())
