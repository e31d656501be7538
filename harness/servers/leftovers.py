"""What a run puts into the system, on record, so that the next start can remove what a SIGKILL left.

A record is a small JSON file in ``running/`` of the harness's home: who owns it, and its children,
shared-memory prefix and temporary folders. It goes with its owner. :func:`reap` looks for records whose
owner is dead, and touches nothing that it cannot tell for certain.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from harness.archive import whole_file
from harness.errors import EnvironmentFailedError, UsageError
from harness.servers.embedded.memory import remove_group
from harness.servers.home import home, made
from harness.servers.owner import identity, is_orphaned, lives

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PREFIX", "Claim", "claimed", "reap", "remove_backend_folders", "temporary_folder"]

PREFIX = "triton-harness-"  # of all shared-memory regions and temporary folders
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it, not a temporary file of ours
BACKEND_FOLDERS = Path("/tmp")  # noqa: S108 - the Python backend does not ask for TMPDIR


@dataclass
class Claim:
    """A record that can grow while its owner lives."""

    path: Path
    record: dict[str, Any]

    def add_child(self, pid: int) -> None:
        """Note a child, which leads a process group of its own."""
        with contextlib.suppress(psutil.Error):
            self.record["children"].append([pid, psutil.Process(pid).create_time()])
        self.write()

    def add_container(self, engine: str, name: str) -> None:
        """Note a container and the address of its engine, before it is made."""
        self.record["container"] = {"engine": engine, "name": name}
        self.write()

    def forget_container(self) -> None:
        """It has been removed."""
        self.record["container"] = None
        self.write()

    def add_group(self, group: Path) -> None:
        """Note a control group, before it is made."""
        self.record["group"] = str(group)
        self.write()

    def write(self) -> None:
        """Write the record, whole."""
        with whole_file(self.path) as partial:
            partial.write_text(json.dumps(self.record), encoding="utf-8")


@contextmanager
def claimed(
    run_id: str, *, shm_prefix: str | None = None, folder: Path | None = None
) -> Iterator[Claim]:
    """Keep a record while the block runs.

    Args:
        run_id: of the run that it belongs to.
        shm_prefix: how the names of its shared-memory regions begin.
        folder: its temporary folder.

    Raises:
        UsageError: ``run_id`` holds what does not belong into a file name.
        EnvironmentFailedError: the record cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", run_id):
        raise UsageError(f"{run_id!r} is no run id: letters, digits, dots and hyphens make one")
    record = {
        "run_id": run_id,
        **identity(),
        "children": [],
        "container": None,
        "group": None,
        "shm_prefix": shm_prefix,
        "folder": str(folder) if folder else None,
    }
    claim = Claim(made(home() / "running") / f"{run_id}-{secrets.token_hex(4)}.json", record)
    try:
        claim.write()
        yield claim
    finally:
        # A clean-up that was interrupted leaves its record to the next start.
        left = (folder and folder.exists()) or _regions(shm_prefix) or record["container"]
        left = left or _group(record) is not None
        if not left:
            claim.path.unlink(missing_ok=True)


@contextmanager
def temporary_folder(run_id: str) -> Iterator[Path]:
    """A temporary folder of the run, removed when the block ends, or by the next start.

    Raises:
        EnvironmentFailedError: it cannot be made.
    """
    # A name that nobody can guess, on record before it is there: an interrupt may come between any lines.
    folder = Path(tempfile.gettempdir()) / f"{PREFIX}{run_id}-{secrets.token_hex(8)}"
    with claimed(run_id, folder=folder):
        try:
            _make(folder)
            yield folder
        finally:
            remove_folder(folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise EnvironmentFailedError(
            f"no temporary folder can be made ({error.strerror or error})",
            where=str(folder.parent),
            remedy="Free room there, or set TMPDIR to another folder",
        ) from error


def reap() -> list[str]:
    """End and remove what dead owners have left; return what was done, one sentence each."""
    done: list[str] = []
    for path in sorted((home() / "running").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            record = json.loads(path.read_text(encoding="utf-8"))
            if is_orphaned(record):
                done += _clean(record)
                path.unlink(missing_ok=True)
    return done + remove_backend_folders()


def remove_backend_folders() -> list[str]:
    """Remove the empty ``/tmp/python_env_*`` that servers left which did not end in order.

    The Python backend makes one for each server process, there and nowhere else (``pb_env.cc``). Its owner
    lived when it was made: where no server lives that is so old, nobody will miss it.
    """
    servers = [
        process.info["create_time"]
        for process in psutil.process_iter(["name", "create_time"])
        if process.info["name"] == "tritonserver"
    ]
    done = []
    for folder in BACKEND_FOLDERS.glob("python_env_*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
            if mine and not any(created <= status.st_ctime + 1 for created in servers):
                folder.rmdir()
                done.append(f"removed {folder}")
    return done


def remove_folder(folder: Path) -> None:
    """Remove a temporary folder that may be read-only."""
    for root, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            Path(root).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _clean(record: dict[str, Any]) -> list[str]:
    done = []
    same_boot = record["boot"] == identity()["boot"]
    for pid, created in record["children"] if same_boot else []:
        if lives(pid, created):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
                done.append(
                    f"ended process {pid} of run {record['run_id']}, whose owner was killed"
                )
    for region in _regions(record["shm_prefix"]) if same_boot else []:
        with contextlib.suppress(OSError):
            region.unlink()
            done.append(f"removed shared memory {region.name}")
    if container := record.get("container"):
        from harness.servers.container.engine import remove_at

        done += remove_at(container["engine"], container["name"])
    if same_boot and (group := _group(record)) and remove_group(group):
        done.append(f"removed control group {group.name}")
    folder = Path(record["folder"]) if record["folder"] else None
    if folder and folder.name.startswith(PREFIX) and _is_temporary(folder):
        remove_folder(folder)
        done.append(f"removed {folder}")
    return done


def _group(record: dict[str, Any]) -> Path | None:
    """The control group of a record, where it is still there and one of ours."""
    group = Path(record.get("group") or "")
    ours = group.name.startswith(PREFIX) and (group / "cgroup.procs").is_file()
    return group if ours else None


def _regions(prefix: str | None) -> list[Path]:
    """Shared-memory regions whose names begin with ``prefix``, which must be one of ours."""
    if not prefix or not prefix.startswith(PREFIX) or not SHARED_MEMORY.is_dir():
        return []
    return [entry for entry in SHARED_MEMORY.iterdir() if entry.name.startswith(prefix)]


def _is_temporary(folder: Path) -> bool:
    """Whether it is a real folder of this user: not a link that somebody has put in its place."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    here = Path(tempfile.gettempdir()).resolve()
    return (
        status.st_uid == os.getuid() and folder.is_dir() and folder.resolve() == here / folder.name
    )
