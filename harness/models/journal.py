"""A journal of finished work: one JSON line a piece, so that an interrupted command can go on."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Journal", "open_journal"]


# How every line begins, by which one that was cut short is known.
LINE_START = b'{"key": '


@dataclass
class Journal:
    """Finished pieces by key; each new one is on the disk before :meth:`add` returns."""

    file: IO[bytes]
    entries: dict[str, dict[str, Any]]

    def get(self, key: str) -> dict[str, Any] | None:
        """What was noted under ``key``, or ``None``."""
        return self.entries.get(key)

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Note a finished piece down.

        Raises:
            EnvironmentFailedError: no room on the disk.
        """
        try:
            self.file.write(json.dumps({"key": key} | entry).encode() + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise EnvironmentFailedError(
                f"cannot be written ({error.strerror or error})",
                where=self.file.name,
                remedy="Free room on the disk; the same command then goes on where it stopped",
            ) from error
        self.entries[key] = entry


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open the journal at ``path``, made if it is not there, for one process at a time.

    A line that a kill cut short is dropped.

    Raises:
        UsageError: another process is writing it, or it holds something else.
        EnvironmentFailedError: the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise EnvironmentFailedError(
            f"cannot be written ({error.strerror or error})",
            where=str(path),
            remedy="Choose another folder with --output",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                "another process is writing here",
                where=str(path),
                remedy="Wait for it, or choose another folder with --output",
            ) from error
        file.seek(0)
        *whole, cut = file.read().split(b"\n")
        entries = dict(_entry(line, path) for line in whole)
        if not LINE_START.startswith(cut[: len(LINE_START)]):
            raise _foreign(path)
        file.truncate(sum(len(line) + 1 for line in whole))
        yield Journal(file, entries)


def _entry(line: bytes, path: Path) -> tuple[str, dict[str, Any]]:
    try:
        entry = json.loads(line)
        return entry.pop("key"), entry
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _foreign(path) from error


def _foreign(path: Path) -> UsageError:
    return UsageError(
        "holds a line that is no finished fit",
        where=str(path),
        remedy="Remove the file to start anew, or choose another folder with --output",
    )
