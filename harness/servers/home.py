"""Where the harness keeps what outlives a command: server environments and the records of runs."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["home", "locked", "made"]


def home() -> Path:
    """The folder: ``$TRITON_HARNESS_HOME``, or ``triton-harness`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("TRITON_HARNESS_HOME"):
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    base = Path(cache) if cache and Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "triton-harness"


def made(folder: Path) -> Path:
    """Make ``folder``, for its owner alone, and return it.

    Raises:
        EnvironmentFailedError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable("the folder cannot be made", folder, error) from error
    return folder


@contextmanager
def locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold ``folder``'s lock; ``waiting`` is called once when somebody else holds it.

    The kernel lets go of it when its holder dies.

    Raises:
        EnvironmentFailedError: the folder cannot be made or written to.
    """
    with _lock_file(made(folder)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock_file(folder: Path) -> IO[str]:
    try:
        return (folder / ".lock").open("w")
    except OSError as error:
        raise _unusable("the folder cannot be written to", folder, error) from error


def _unusable(what: str, folder: Path, error: OSError) -> EnvironmentFailedError:
    return EnvironmentFailedError(
        f"{what} ({error.strerror or error})",
        where=str(folder),
        remedy="Set TRITON_HARNESS_HOME to a folder that can be written to",
    )
