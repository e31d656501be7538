"""What the driver and the Locust process say to each other over a Unix socket.

A message is one line of JSON; where it has ``parts``, so many arrays of bytes follow, of those lengths.
The driver asks, the process answers, one at a time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO

from harness.errors import EnvironmentFailedError, HarnessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["error_from", "error_message", "receive", "send"]

ERRORS: dict[str, type[HarnessError]] = {
    error.__name__: error for error in (UsageError, EnvironmentFailedError)
}


def send(
    stream: BinaryIO, message: dict[str, Any], parts: Sequence[bytes | memoryview] = ()
) -> None:
    """Write one message.

    Raises:
        OSError: nobody listens any more.
    """
    if parts:
        message = {**message, "parts": [len(part) for part in parts]}
    stream.write(json.dumps(message).encode() + b"\n")
    stream.writelines(parts)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """Read one message with its parts; ``None`` when there will be no more.

    Raises:
        OSError: the connection broke, or a time-out passed.
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message = json.loads(line)
    lengths = message.pop("parts", [])
    parts = [stream.read(length) for length in lengths]
    return (message, parts) if [len(part) for part in parts] == lengths else None


def error_message(error: HarnessError) -> dict[str, Any]:
    """An error as a message."""
    kind = type(error).__name__
    return {
        "error": kind if kind in ERRORS else EnvironmentFailedError.__name__,
        "what": error.what,
        "where": error.where,
        "remedy": error.remedy,
    }


def error_from(message: dict[str, Any]) -> HarnessError:
    """The inverse of :func:`error_message`."""
    kind = ERRORS.get(message["error"], EnvironmentFailedError)
    return kind(message["what"], where=message["where"], remedy=message["remedy"])
