"""Who owns what a run puts into the system: a process, known for certain even when its number is reused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

__all__ = ["identity", "is_orphaned", "lives"]


def identity() -> dict[str, Any]:
    """This process, as JSON: number and start, the boot of the machine, and the namespace of numbers."""
    me = psutil.Process()
    return {"owner": [me.pid, me.create_time()], "boot": _boot(), "namespace": _namespace()}


def is_orphaned(record: dict[str, Any]) -> bool:
    """Whether the owner is dead for certain: a process of another container cannot be seen from here.

    Args:
        record: holds what :func:`identity` gave the owner.
    """
    if record["boot"] != _boot():
        return True
    return record["namespace"] == _namespace() and not lives(*record["owner"])


def lives(pid: int, created: float) -> bool:
    """Whether this very process is alive, not another that was given its number."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != "zombie"
    except psutil.Error:
        return False


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
