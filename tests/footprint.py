"""What a server puts into the system, noted while it runs and looked for when it has ended."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from harness.servers import leftovers
from harness.servers.embedded.memory import find_cgroup
from harness.servers.home import home
from harness.servers.inquiry import answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pytest

SHARED_MEMORY = Path("/dev/shm")
BACKEND_FOLDERS = Path("/tmp")
PROCESSES = ("tritonserver", "triton_python_b", "guard.py", "harness.load")


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0, what: str = "") -> None:
    """Fail where ``condition`` does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        late = (
            time.monotonic() > deadline
        )  # before one looks: this process may be held up meanwhile
        if condition():
            return
        assert not late, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def assert_in_time(left: Callable[[], list[str]], timeout_s: float) -> None:
    """Fail where anything is still ``left`` after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() > deadline  # before one looks, see above
        if not (found := left()):
            return
        assert not late, found
        time.sleep(0.05)


def freeze(pid: int) -> None:
    """Stop a process, and return when all of its threads have: a signal takes a moment to reach each."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: _stopped(pid), 10, f"process {pid} is stopped")


def thaw_when_silent(pid: int, patch: pytest.MonkeyPatch) -> list[int]:
    """Let a frozen server go on as soon as a question of :class:`Health` was not answered; note that in the list."""
    thawed: list[int] = []

    def ask(*arguments: Any) -> bool:
        answered = answers(*arguments)
        if not answered and not thawed:
            os.kill(pid, signal.SIGCONT)
            thawed.append(pid)
        return answered

    patch.setattr("harness.servers.health.answers", ask)
    return thawed


def _stopped(pid: int) -> bool:
    try:
        stats = [(at / "stat").read_text() for at in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:  # a thread has just ended
        return False
    # The state is the first word after the name in brackets, which may hold spaces itself.
    return all(stat.rpartition(")")[2].split()[0] in "Tt" for stat in stats)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail where the block leaves anything of a server.

    That is a process below this one or below none, a port, shared-memory region, control group or temporary folder.
    """
    before = _held()
    try:
        yield
    finally:
        assert_in_time(lambda: sorted(_held() - before), 5)


def _held() -> set[str]:
    found: set[str] = set()
    # Containers have their servers below the engine, and other tests may use those meanwhile.
    orphans = [process for process in psutil.process_iter(["ppid"]) if process.info["ppid"] == 1]
    for process in (*psutil.Process().children(recursive=True), *orphans):
        with suppress(psutil.Error):  # it has just gone
            words = " ".join([process.name(), *process.cmdline()])
            if any(mark in words for mark in PROCESSES):
                found.add(f"process {process.pid}")
                sockets = process.net_connections()
                found |= {f"port {each.laddr.port}" for each in sockets if each.status == "LISTEN"}
    for folder in (SHARED_MEMORY, Path(tempfile.gettempdir())):
        found |= {str(path) for path in folder.glob(f"{leftovers.PREFIX}*")}
    found |= {f"control group {name}" for name in control_groups()}
    return found | {str(path) for path in BACKEND_FOLDERS.glob("python_env_*")}


def control_groups() -> set[str]:
    """The names of the control groups that hold servers to their memory, whoever has made them."""
    try:
        parent = find_cgroup().parent
    except OSError:  # none may be made here
        return set()
    return {group.name for group in parent.glob(f"{leftovers.PREFIX}*")}


@dataclass
class Footprint:
    """The processes that came to be below ``owner``, and the marks of the servers among them.

    Attributes:
        groups: the control groups of servers with a limit on their memory.
    """

    owner: int
    pids: set[int] = field(default_factory=set)
    servers: set[int] = field(default_factory=set)
    prefixes: set[str] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    others: set[int] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    backend_folders: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.owner == os.getpid():  # what is below a command is all its own
            self.others = {child.pid for child in psutil.Process().children(recursive=True)}
        self.backend_folders = set(BACKEND_FOLDERS.glob("python_env_*"))

    def note(self) -> Footprint:
        """Add what is there now."""
        try:
            children = psutil.Process(self.owner).children(recursive=True)
        except psutil.NoSuchProcess:  # it has ended
            return self
        for child in children:
            if child.pid in self.others:
                continue
            try:
                name, words = child.name(), child.cmdline()
            except psutil.NoSuchProcess:
                continue
            if name == "tritonserver":
                self.servers.add(child.pid)
                self.prefixes |= set(
                    values(words, "--backend-config=python,shm-region-prefix-name")
                )
                for kind in ("http", "grpc", "metrics"):
                    self.ports |= {int(port) for port in values(words, f"--{kind}-port")}
            ours = any(mark in " ".join(words) for mark in ("guard.py", "harness.load"))
            if name == "tritonserver" or "triton_python_b" in name or ours:
                self.pids.add(child.pid)
        self.groups |= self._groups()
        return self

    def _groups(self) -> set[str]:
        return {name for name in control_groups() if name.startswith(tuple(self.prefixes) or "\0")}

    def regions(self) -> list[str]:
        """Shared-memory regions of these servers."""
        names = [entry.name for entry in SHARED_MEMORY.iterdir()]
        return [name for name in names if name.startswith(tuple(self.prefixes) or "\0")]

    def left(self, *, files: bool = True) -> list[str]:
        """What is still there, in words."""
        found = [f"process {pid}" for pid in self.pids if lives(pid)]
        found += [f"region {name}" for name in self.regions()]
        found += [f"control group {name}" for name in self._groups()]
        found += [f"port {port}" for port in self.ports if listens(port)]
        if files:
            temporary = Path(tempfile.gettempdir())
            found += [str(path) for path in temporary.glob(f"{leftovers.PREFIX}*")]
            found += [str(path) for path in (home() / "running").glob("*")]
            # Another server on this machine may have made one, and may still use it.
            if not any(
                process.info["name"] == "tritonserver" for process in psutil.process_iter(["name"])
            ):
                new = set(BACKEND_FOLDERS.glob("python_env_*")) - self.backend_folders
                found += map(str, new)
        return found

    def assert_gone(self, timeout_s: float = 5.0, *, files: bool = True) -> None:
        """Fail where anything is left after ``timeout_s``."""
        assert self.servers, "no server was ever seen: nothing is proved"
        assert_in_time(lambda: self.left(files=files), timeout_s)


def values(words: Iterable[str], option: str) -> list[str]:
    return [word.partition("=")[2].rpartition("=")[2] for word in words if word.startswith(option)]
