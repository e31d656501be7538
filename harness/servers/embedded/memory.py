"""A limit on the embedded server's memory: a control group where one may be made, else address space.

A control group (cgroup v2, or the memory controller of v1) counts the server and all of its Python stubs
together, shared memory included, and the kernel ends one of them at the limit. Without one each process is
given a limit on its address space (RLIMIT_AS), at which an allocation fails: cruder, since address space is
more than memory that is used.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Cgroup", "MemoryLimit", "find_cgroup", "limited", "remove_group"]

SYSTEM = Path("/proc/self")
# What a server with one Python stub takes of address space before it has loaded any model.
LEAST_ADDRESS_SPACE_BYTES = 2 << 30
REMOVAL_S = 2.0  # how long the kernel may take to bury what was in a group


@dataclass(frozen=True)
class Cgroup:
    """Where control groups with a limit on memory may be made.

    Attributes:
        version: 1 or 2.
        parent: the folder that a new one is made in.
        own: the folder of this process's own group.
    """

    version: Literal[1, 2]
    parent: Path
    own: Path


@dataclass(frozen=True)
class MemoryLimit:
    """A limit that is in force, or will be for what is started in it.

    Attributes:
        limit_bytes: of all processes together in a group, of each one as address space.
        how: ``cgroup v2``, ``cgroup v1`` or ``address space``.
        group: folder of the control group.
        home: folder of the group that this process itself is in.
    """

    limit_bytes: int
    how: Literal["cgroup v2", "cgroup v1", "address space"]
    group: Path | None = None
    home: Path | None = None

    def task(self) -> dict[str, Any]:
        """What the guard is told, as JSON."""
        if self.group is None:
            return {"address_space": self.limit_bytes}
        return {"group": str(self.group), "home": str(self.home)}

    def describe(self) -> dict[str, Any]:
        """The limit as JSON, without paths."""
        return {"bytes": self.limit_bytes, "how": self.how}

    def killed(self) -> int:
        """How many processes the kernel has ended because of the limit; 0 where it does not count them."""
        if self.group is None:
            return 0
        name = "memory.events" if self.how == "cgroup v2" else "memory.oom_control"
        with contextlib.suppress(OSError, ValueError):
            for line in (self.group / name).read_text(encoding="ascii").splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        return 0

    def remove(self) -> None:
        """Remove the group, whose processes have ended."""
        if self.group is not None:
            remove_group(self.group)


@contextmanager
def limited(
    limit_bytes: int | None, name: str, note: Callable[[Path], None]
) -> Iterator[MemoryLimit | None]:
    """A limit while the block runs: a control group where that may be made, else address space.

    Args:
        limit_bytes: ``None`` for no limit.
        name: of the control group.
        note: is told its folder before it is made.

    Raises:
        EnvironmentFailedError: neither will do, with the reason of each.
    """
    limit = None if limit_bytes is None else _limit(limit_bytes, name, note)
    try:
        yield limit
    finally:
        if limit is not None:
            limit.remove()


def _limit(limit_bytes: int, name: str, note: Callable[[Path], None]) -> MemoryLimit:
    try:
        place = find_cgroup()
        note(place.parent / name)
        return _group(place, limit_bytes, name)
    except OSError as error:
        reason = error.strerror or str(error)
    if limit_bytes < LEAST_ADDRESS_SPACE_BYTES:
        least = LEAST_ADDRESS_SPACE_BYTES >> 20
        raise EnvironmentFailedError(
            f"a limit of {limit_bytes >> 20} MiB cannot be held: no control group can be made ({reason}),"
            f" and as a limit on address space a server needs at least {least} MiB",
            where="server.memory",
            remedy="Give more, use a server of kind container, or delegate a cgroup with the memory"
            " controller to this user",
        )
    return MemoryLimit(limit_bytes, "address space")


def find_cgroup(system: Path = SYSTEM) -> Cgroup:
    """Find the folder below which this process may have a group with a limit on memory.

    Args:
        system: the folder with ``mountinfo`` and ``cgroup``, which is ``/proc/self``.

    Raises:
        OSError: there is none, with the reason.
    """
    groups = [
        line.split(":", 2) for line in (system / "cgroup").read_text(encoding="utf-8").splitlines()
    ]
    mounts = _mounts((system / "mountinfo").read_text(encoding="utf-8").splitlines())
    for _, controllers, path in groups:
        if "memory" in controllers.split(","):
            own = _folder(mounts, "cgroup", path)
            if own is not None:
                return Cgroup(1, own, own)
    for _, controllers, path in groups:
        own = _folder(mounts, "cgroup2", path) if not controllers else None
        if own is not None:
            return Cgroup(2, _parent(own), own)
    raise OSError("no memory controller is mounted")


def _mounts(lines: Sequence[str]) -> list[tuple[str, str, Path]]:
    """Type, root and mount point of each hierarchy that can hold the memory controller (``proc(5)``)."""
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "memory" in kind[2].split(",")):
            found.append((kind[0], fields[3], Path(fields[4])))
    return found


def _folder(mounts: Sequence[tuple[str, str, Path]], kind: str, path: str) -> Path | None:
    """Where a group of this process lies: in a container its path begins above what is mounted."""
    for mounted, root, point in mounts:
        if mounted != kind:
            continue
        inside = path.removeprefix(root) if root != "/" else path
        folder = point / inside.strip("/")
        if folder.is_dir():
            return folder
    return None


def _parent(own: Path) -> Path:
    """The nearest group above ``own`` that hands the memory controller on.

    A group of v2 that holds processes cannot hand it on itself, so the new one comes beside it. Never
    beside one that has a limit of its own: that would be a way out of it.
    """
    folder = own
    while True:
        if "memory" in _words(folder / "cgroup.subtree_control"):
            return folder
        if "memory" not in _words(folder / "cgroup.controllers"):
            raise OSError("the memory controller is not handed on to this user")
        limit = folder / "memory.max"
        if limit.exists() and _words(limit) != ["max"]:
            raise OSError("this process's own control group has a limit, and cannot hand it on")
        if not (folder.parent / "cgroup.controllers").exists():
            raise OSError("no control group above hands the memory controller on")
        folder = folder.parent


def _words(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").split()


def _group(place: Cgroup, limit_bytes: int, name: str) -> MemoryLimit:
    """Make a group with a limit; nothing is left where it cannot be set.

    Raises:
        OSError: it cannot be made.
    """
    group = place.parent / name
    group.mkdir(mode=0o755)
    try:
        if place.version == 2:
            settings = {"memory.max": limit_bytes, "memory.swap.max": 0}
        else:
            settings = {
                "memory.limit_in_bytes": limit_bytes,
                "memory.memsw.limit_in_bytes": limit_bytes,
            }
        first, second = settings
        (group / first).write_text(str(settings[first]), encoding="ascii")
        if (group / second).exists():  # a kernel without swap accounting has none
            (group / second).write_text(str(settings[second]), encoding="ascii")
    except BaseException:
        remove_group(group)
        raise
    how: Literal["cgroup v2", "cgroup v1"] = "cgroup v2" if place.version == 2 else "cgroup v1"
    return MemoryLimit(limit_bytes, how, group, place.own)


def remove_group(group: Path) -> bool:
    """End what still runs in a group, and remove it; return whether it has gone."""
    deadline = time.monotonic() + REMOVAL_S
    while group.is_dir():
        with contextlib.suppress(OSError):
            group.rmdir()
            break
        with contextlib.suppress(OSError):
            for pid in map(int, _words(group / "cgroup.procs")):
                if pid > 0:  # 0 is a process that cannot be seen from here
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
