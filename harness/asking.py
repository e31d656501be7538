"""One question to a server over HTTP, whoever runs it: bounded in time, in bytes and in headers."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from dataclasses import dataclass
from typing import Any, cast

from harness.access import OPEN, Access, tls_reason
from harness.errors import EnvironmentFailedError

__all__ = ["Reply", "get", "get_json", "knock"]

LARGEST_ANSWER_BYTES = 1 << 20
LARGEST_HEAD_BYTES = 1 << 16
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Reply:
    """What came back: the status, and the body of at most :data:`LARGEST_ANSWER_BYTES`."""

    status: int
    body: bytes


class _Incoming(io.RawIOBase):
    """What a connection brings, until a deadline and up to a number of bytes: also to a slow dripper."""

    def __init__(self, connection: socket.socket, deadline: float, largest: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self._left = largest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever can be written to
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left_s)
        count = self._connection.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise http.client.HTTPException("the answer is too large")
        return count


class _Stream:
    """What ``http.client`` needs of a socket."""

    def __init__(self, incoming: _Incoming) -> None:
        self._incoming = incoming

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._incoming)


def get(host: str, port: int, path: str, *, access: Access = OPEN, timeout_s: float) -> Reply:
    """Get ``path``, such as ``/v2``; everything is over within ``timeout_s``.

    Raises:
        EnvironmentFailedError: no answer, in one sentence without any secret.
        UsageError: a certificate or a secret that cannot be used.
    """
    scheme = "https" if access.http_tls else "http"
    where = f"{scheme}://{host}:{port}{path}"
    deadline = time.monotonic() + timeout_s
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in access.header_values().items()]
    context = access.tls_context() if access.http_tls else None
    try:
        with socket.create_connection((host, port), timeout_s) as plain:
            connection = context.wrap_socket(plain, server_hostname=host) if context else plain
            with connection:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                request = "\r\n".join([*lines, "Connection: close", "", ""])
                connection.sendall(request.encode("latin-1"))
                largest = LARGEST_ANSWER_BYTES + LARGEST_HEAD_BYTES
                stream = _Stream(_Incoming(connection, deadline, largest))
                # Closed here: left to the garbage collector, its stream may be gone before it.
                with http.client.HTTPResponse(
                    cast("socket.socket", stream), method="GET"
                ) as response:
                    response.begin()
                    body = response.read(LARGEST_ANSWER_BYTES + 1)
                    if len(body) > LARGEST_ANSWER_BYTES:
                        raise http.client.HTTPException("the answer is too large")
                    return Reply(response.status, body)
    except TimeoutError as error:
        raise _unanswered(f"no answer within {timeout_s:g} s", where) from error
    except OSError as error:
        raise _unanswered(_why(error), where) from error
    except (http.client.HTTPException, ValueError) as error:
        reason = access.redacted(str(error) or type(error).__name__)[:SHOWN_CHARACTERS]
        raise _unanswered(f"its answer is no HTTP that can be read ({reason})", where) from error


def get_json(
    host: str,
    port: int,
    path: str,
    *,
    access: Access = OPEN,
    timeout_s: float,
) -> dict[str, Any]:
    """Get a JSON object.

    Raises:
        EnvironmentFailedError: no answer, another status than 200, or no JSON object.
        UsageError: a certificate or a secret that cannot be used.
    """
    reply = get(host, port, path, access=access, timeout_s=timeout_s)
    where = f"{'https' if access.http_tls else 'http'}://{host}:{port}{path}"
    text = access.redacted(reply.body.decode(errors="replace"))
    if reply.status != http.client.OK:
        shown = " ".join(_error_in(text).split())[:SHOWN_CHARACTERS]
        raise _unanswered(f"HTTP {reply.status}" + (f": {shown}" if shown else ""), where)
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unanswered("its answer is not JSON", where) from error
    if not isinstance(answer, dict):
        raise _unanswered("its answer is not a JSON object", where)
    return answer


def knock(host: str, port: int, timeout_s: float) -> None:
    """Connect and hang up: where nobody listens, that is said at once.

    Raises:
        EnvironmentFailedError: nobody is there.
    """
    try:
        socket.create_connection((host, port), timeout_s).close()
    except TimeoutError as error:
        raise _unanswered(f"no answer within {timeout_s:g} s", f"{host}:{port}") from error
    except OSError as error:
        raise _unanswered(_why(error), f"{host}:{port}") from error


def _error_in(text: str) -> str:
    """What a server says was wrong: ``{"error": …}`` (KServe v2), or the text itself."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return text
    said = answer.get("error") if isinstance(answer, dict) else None
    return said if isinstance(said, str) else text


def _why(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused: nobody listens there"
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    return tls_reason(error)


def _unanswered(what: str, where: str) -> EnvironmentFailedError:
    return EnvironmentFailedError(what, where=where)
