"""A file of arrival times, such as a log's, that is sent again."""

from __future__ import annotations

import csv
import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["read_arrivals"]

LARGEST_REPLAY_BYTES = 1 << 28


def read_arrivals(path: Path) -> tuple[npt.NDArray[np.float64], str]:
    """Read a file of arrival times: one a line, in seconds from the beginning, not falling.

    A first line that is no number is taken for a heading; of several columns the first counts.

    Returns:
        The times in seconds, shape (arrivals,), and the SHA-256 of the file.

    Raises:
        ValueError: it cannot be read, or is no series of arrivals, with the line and the way out.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"the replay {path.name} is no file: give one beside the scenario")
        with path.open("rb") as file:
            content = file.read(LARGEST_REPLAY_BYTES + 1)
        if len(content) > LARGEST_REPLAY_BYTES:
            raise ValueError(f"the replay {path.name} is larger than 256 MiB: cut it")
        text = content.decode("utf-8")
    except OSError as error:
        raise ValueError(
            f"the replay {path.name} cannot be read ({error.strerror}): give a file beside the scenario"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"the replay {path.name} is not text") from error
    times = _parsed(text, path.name)
    if not times:
        raise ValueError(f"the replay {path.name} holds no arrival time")
    if times[-1] == 0:
        raise ValueError(f"the replay {path.name} takes no time: all its requests are due at 0 s")
    return np.array(times), hashlib.sha256(content).hexdigest()


def _parsed(text: str, name: str) -> list[float]:
    """The times in the text of a replay, or a ValueError with the line."""
    times: list[float] = []
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        if not row or not row[0].strip() or row[0].lstrip().startswith("#"):
            continue
        where = f"the replay {name}, line {number}"
        try:
            time_s = float(row[0])
        except ValueError:
            if number == 1:
                continue
            raise ValueError(f"{where}: {row[0].strip()[:40]!r} is no time in seconds") from None
        if not math.isfinite(time_s) or time_s < 0:
            raise ValueError(f"{where}: {time_s:g} s is no time after the beginning")
        if times and time_s < times[-1]:
            raise ValueError(
                f"{where}: {time_s:g} s comes after {times[-1]:g} s: sort the times, earliest first"
            )
        times.append(time_s)
    return times
