"""A folder that appears whole or not at all, and what is in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from harness.errors import EnvironmentFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["check_replaceable", "digests", "make_folder", "whole_folder"]


def check_replaceable(path: Path, record: str) -> None:
    """Refuse to replace a folder that we did not write.

    Args:
        path: the folder about to be replaced; it need not be there.
        record: name of the file by which our own folders are known.

    Raises:
        UsageError: ``path`` holds something else.
    """
    taken = path.exists() and not (path.is_dir() and (path / record).is_file())
    if taken and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(
            f"is there already and holds no {record}, so it will not be replaced",
            where=str(path),
            remedy="Choose another folder with --output",
        )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by path within the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def make_folder(path: Path, option: str = "--output") -> None:
    """Make a folder where results will go, so that it fails before they are worked for.

    Args:
        path: the folder; it may be there.
        option: what names another one.

    Raises:
        EnvironmentFailedError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise EnvironmentFailedError(
            f"cannot be written to ({error.strerror or error})",
            where=str(path),
            remedy=f"Choose another folder with {option}",
        ) from error


@contextmanager
def whole_folder(path: Path, record: str) -> Iterator[Path]:
    """Give an empty folder beside ``path`` to fill; on success it takes the place of ``path``.

    An older folder stays untouched until then. What a killed process left beside it is removed.

    Raises:
        UsageError: ``path`` holds something that is not ours.
        EnvironmentFailedError: no room on the disk, or the folder cannot be written to.
    """
    check_replaceable(path, record)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    replaced = path.with_name(f".{path.name}.replaced-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _reap(path)
        partial.mkdir()
        yield partial
        if path.exists():
            path.rename(replaced)
        try:
            partial.rename(path)
        except OSError:
            if replaced.exists():
                replaced.rename(path)
            raise
    except OSError as error:
        raise EnvironmentFailedError(
            f"cannot be written ({error.strerror or error})",
            where=str(path),
            remedy="Free room on the disk or choose another folder with --output",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _reap(path: Path) -> None:
    """Remove what processes that are gone left beside ``path``; put back what one had replaced."""
    for stale in path.parent.glob(f".{path.name}.*-*"):
        kind, _, pid = stale.name.removeprefix(f".{path.name}.").partition("-")
        if kind not in {"partial", "replaced"} or not pid.isdigit() or _alive(int(pid)):
            continue
        if kind == "replaced" and not path.exists():
            with suppress(OSError):
                stale.rename(path)
                continue
        shutil.rmtree(stale, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
