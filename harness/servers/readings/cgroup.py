"""What a container has used by the kernel's own account: its control group, version 1 or 2.

Source: ``Documentation/admin-guide/cgroup-v1/{cpuacct,memory}.rst`` and ``cgroup-v2.rst`` of the Linux
kernel. Where its files are not seen from here (an engine in a virtual machine, or on another host) the
engine is asked for the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.servers.readings.metrics import Metric

__all__ = ["ContainerUsage", "ControlGroup", "find_control_group", "from_engine"]

ROOT = Path("/sys/fs/cgroup")
PROC = Path("/proc")


@dataclass(frozen=True)
class ControlGroup:
    """The files of one control group.

    Attributes:
        cpu: ``cpu.stat`` (version 2) or ``cpuacct.usage`` (version 1).
        memory: ``memory.current`` or ``memory.usage_in_bytes``.
        memory_stat: ``memory.stat``.
    """

    cpu: Path
    memory: Path
    memory_stat: Path

    def read(self) -> list[Metric]:
        """CPU time so far and memory in use; the page cache that could be dropped at once is left out.

        Raises:
            OSError: the group has gone.
            ValueError: a file holds something else.
        """
        if self.cpu.name == "cpu.stat":
            cpu_s = _fields(self.cpu)["usage_usec"] / 1e6
            idle = "inactive_file"
        else:
            cpu_s = int(self.cpu.read_text()) / 1e9
            idle = "total_inactive_file"
        used = int(self.memory.read_text()) - _fields(self.memory_stat).get(idle, 0)
        return _metrics(cpu_s, used)


def find_control_group(pid: int, root: Path = ROOT, proc: Path = PROC) -> ControlGroup | None:
    """The control group of a process, where it has one of its own and its files are seen here."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    places: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        places |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
    for unified in (root, root / "unified"):
        if place := places.get(""):
            folder = unified / place
            found = ControlGroup(
                folder / "cpu.stat", folder / "memory.current", folder / "memory.stat"
            )
            if _readable(found):
                return found
    if not places.get("cpuacct") or not places.get("memory"):
        return None  # the root's group is the whole machine's
    memory = root / "memory" / places["memory"]
    for mount in ("cpuacct", "cpu,cpuacct", "cpuacct,cpu"):
        found = ControlGroup(
            root / mount / places["cpuacct"] / "cpuacct.usage",
            memory / "memory.usage_in_bytes",
            memory / "memory.stat",
        )
        if _readable(found):
            return found
    return None


def from_engine(stats: dict[str, Any]) -> list[Metric]:
    """The same from what the engine answers (``GET /containers/…/stats``).

    Raises:
        KeyError: it does not know, as of a container that has ended.
    """
    memory = stats["memory_stats"]
    idle = memory.get("stats") or {}
    cache = idle.get("total_inactive_file", idle.get("inactive_file", 0))
    return _metrics(stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9, memory["usage"] - cache)


class ContainerUsage:
    """CPU time and memory of one container.

    Args:
        pid: its main process, where this machine's process numbers hold it.
        ask: asks the engine for its statistics.
    """

    name = "container"

    def __init__(self, pid: int | None, ask: Callable[[], dict[str, Any]]) -> None:
        self._group = find_control_group(pid) if pid else None
        self.ask = ask

    def read(self) -> list[Metric]:
        """``container_cpu_seconds`` (so far) and ``container_memory_bytes``.

        Raises:
            Exception: it has gone, or the engine does not answer.
        """
        return self._group.read() if self._group else from_engine(self.ask())


def _metrics(cpu_s: float, memory_bytes: int) -> list[Metric]:
    return [
        ("container_cpu_seconds", "{}", cpu_s),
        ("container_memory_bytes", "{}", float(memory_bytes)),
    ]


def _readable(group: ControlGroup) -> bool:
    try:
        group.read()
    except (OSError, ValueError, KeyError):
        return False
    return True


def _fields(path: Path) -> dict[str, int]:
    """A file of lines with a name and a number."""
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
