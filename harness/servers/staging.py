"""A repository of the run's own: read-only copies of the models to serve, removed at the end."""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.errors import EnvironmentFailedError, UsageError
from harness.scenario import NAME
from harness.servers.leftovers import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["staged"]


@contextmanager
def staged(model_folders: Mapping[str, Path], run_id: str) -> Iterator[Path]:
    """Copy models into a temporary repository; remove it when the block ends.

    Only ``config.pbtxt`` and the version folders (``1/``, ``2/`` …) are copied, links followed, and
    nothing in the copy can be written to.

    Args:
        model_folders: exported model folders by model name.
        run_id: marks the folder as this run's.

    Raises:
        UsageError: a folder is no model: its name, ``config.pbtxt`` or a version is missing.
        EnvironmentFailedError: no room for the copy.
    """
    for name, folder in model_folders.items():
        _check(name, folder)
    with temporary_folder(run_id) as repository:
        for name, folder in model_folders.items():
            _copy(folder, repository / name)
        _protect(repository)
        yield repository


def versions(folder: Path) -> list[Path]:
    """The version folders of a model, in numeric order."""
    found = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name))


def _check(name: str, folder: Path) -> None:
    remedy = "Export the model with: harness export"
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name!r} is no model name", remedy="Use letters, digits, dots, hyphens")
    if not (folder / "config.pbtxt").is_file():
        raise UsageError(
            "there is no config.pbtxt in this folder", where=str(folder), remedy=remedy
        )
    if not versions(folder):
        raise UsageError("no version folder, such as 1/, in it", where=str(folder), remedy=remedy)


def _copy(folder: Path, target: Path) -> None:
    try:
        target.mkdir()
        shutil.copyfile(folder / "config.pbtxt", target / "config.pbtxt")
        for version in versions(folder):
            shutil.copytree(
                version, target / version.name, ignore=shutil.ignore_patterns("__pycache__")
            )
    except shutil.Error as error:
        first = error.args[0][0]
        raise UsageError(f"cannot be copied ({first[2]})", where=str(first[0])) from error
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> EnvironmentFailedError:
    return EnvironmentFailedError(
        f"the models cannot be copied for the server ({error.strerror or error})",
        where=str(error.filename or tempfile.gettempdir()),
        remedy="Free room there, or set TMPDIR to another folder",
    )


def _protect(repository: Path) -> None:
    for path in repository.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    repository.chmod(0o555)
