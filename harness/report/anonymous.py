"""Leaving out who measured and where: host, user, paths and the serials of GPUs.

The rule: in every text of a run each path becomes ``…``, with the name of its file where it is one, and
each word that is the host's name, a user's name found in a path, or this machine's own host or user,
becomes ``…``; a GPU's serial becomes its number in the run. Fields that hold nothing else (the host name) are
left out. Measurements, model names and points stay as they are.
"""

from __future__ import annotations

import getpass
import re
import socket
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from harness.records import RunRecord, TrialRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["anonymous_record", "anonymous_trial", "names_in", "numbered"]

GONE = "…"
# A path that says where on a machine: absolute, below somebody's home, or out of the current folder.
PATH = re.compile(r"(?<![\w:/.…~-])(?:~[\w.-]*|\.\.|(?=/\w))/[^\s\"'<>|:;,()\[\]{}=]*")
HOME = re.compile(r"(?:/home/|/Users/|~)([\w.-]+)")
# A serial, or as much of its beginning as tells it from others; ``GPU-accelerated`` and our own ``GPU-0`` are none.
DEVICE = re.compile(r"(?:GPU|MIG)-(?:GPU-)?[0-9A-Fa-f]{4,}[0-9A-Fa-f/-]*(?![0-9A-Za-z])")
HIDDEN = frozenset({"hostname", "cwd", "user", "username"})
# Not names of anybody, and words that reports are full of.
COMMON = frozenset({"root", "localhost", "user", "home", "admin", "nobody", "triton", "harness"})
SHORTEST_NAME = 3


def names_in(records: Iterable[RunRecord | TrialRecord]) -> frozenset[str]:
    """The names that must not appear: the run's host, a remote server's, users in its paths, and this machine's own."""
    names = {socket.gethostname(), Path.home().name, _user()}
    records = list(records)
    for record in records:
        data = record.model_dump(mode="json")
        for key, text in _texts(data):
            names |= {match.rstrip(".") for match in HOME.findall(text)}
            if key in HIDDEN:
                names.add(text)
    names |= {name.partition(".")[0] for name in names}
    names |= {host for record in records if (host := _server(record))}
    return frozenset(
        name for name in names if len(name) >= SHORTEST_NAME and name.lower() not in COMMON
    )


def _server(record: RunRecord | TrialRecord) -> str:
    """The host of a server that somebody else runs, whole: a part of an address is any number."""
    server = record.scenario.get("server") if isinstance(record, RunRecord) else None
    return str(server.get("host") or "") if isinstance(server, dict) else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _texts(data: Any, key: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    """Every text in a JSON value with the key that it stands under."""
    if isinstance(data, str):
        yield key, data
    elif isinstance(data, dict):
        for name, value in data.items():
            yield from _texts(value, name)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value, key)


def anonymous_record(
    record: RunRecord, names: frozenset[str], devices: dict[str, str]
) -> RunRecord:
    """``record`` without host, user and paths; the command keeps the names of files and of itself.

    Args:
        record: how a run was made.
        names: what must not appear, from :func:`names_in`.
        devices: the run's GPUs, as :func:`numbered` keeps them.
    """
    data = record.model_dump(mode="json")
    data["command"] = [_name_of(word) for word in record.command[:1]] + [
        _without_folders(word) for word in record.command[1:]
    ]
    return RunRecord.model_validate(_scrubbed(data, names, devices))


def anonymous_trial(
    record: TrialRecord, names: frozenset[str], devices: dict[str, str]
) -> TrialRecord:
    """``record`` without host, user and paths."""
    data = record.model_dump(mode="json")
    point = data.pop("point")
    return TrialRecord.model_validate({**_scrubbed(data, names, devices), "point": point})


def _name_of(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _without_folders(word: str) -> str:
    """A word of a command line: where a relative path leads tells of the machine too."""
    option, equals, value = word.rpartition("=")
    name = _name_of(value)
    kept = GONE if PATH.match(value) and not PurePosixPath(name).suffix else name
    return f"{option}{equals}{kept}"


def _shortened(path: str) -> str:
    """What is left of a path: the name of a file, known by its suffix; nothing of a folder."""
    name = _name_of(path)
    return f"{GONE}/{name}" if PurePosixPath(name).suffix else GONE


def numbered(text: str, devices: dict[str, str]) -> str:
    """``text`` with a number for each GPU's serial; ``devices`` keeps which, and is filled here.

    A GPU may be asked for by the beginning of its serial, which is then the same device.
    """

    def number(found: re.Match[str]) -> str:
        serial = found[0]
        same = (each for each in devices if each.startswith(serial) or serial.startswith(each))
        known = next(same, None)
        given = f"GPU-{len(set(devices.values()))}" if known is None else devices[known]
        return devices.setdefault(serial, given)

    return DEVICE.sub(number, text)


def _scrubbed(data: Any, names: frozenset[str], devices: dict[str, str]) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(data, str):
        return _scrub(data, names, devices)
    if isinstance(data, dict):
        return {
            _scrub(key, names, devices): _scrubbed(value, names, devices)
            for key, value in data.items()
            if key not in HIDDEN
        }
    if isinstance(data, list):
        return [_scrubbed(value, names, devices) for value in data]
    return data


def _scrub(text: str, names: frozenset[str], devices: dict[str, str]) -> str:
    # Before the rest: a host that is called gpu would take the head off a serial.
    text = numbered(text, devices)
    text = PATH.sub(lambda match: _shortened(match[0]), text)
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(
            rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", GONE, text, flags=re.IGNORECASE
        )
    return text
