"""A server may answer what it likes: each question ends in time, in few bytes, in one sentence."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from harness.access import Access
from harness.asking import LARGEST_ANSWER_BYTES, get, get_json
from harness.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A real server on loopback that takes one connection and does as it likes with it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                with listener.accept()[0] as connection:
                    connection.recv(65536)
                    answer(connection)
            except OSError:
                pass  # the other side has had enough

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(60)
    assert not thread.is_alive(), "the connection is still open"


def sends(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def forever(first: bytes, again: bytes, pause_s: float = 0.0) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(again)
            time.sleep(pause_s)

    return answer


def with_length(body: bytes) -> bytes:
    return OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_an_object_is_read() -> None:
    with server(sends(with_length(b'{"name": "triton"}'))) as port:
        assert get_json("127.0.0.1", port, "/v2", timeout_s=60) == {"name": "triton"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (forever(OK + b"\r\n", b"x" * 65536), "the answer is too large"),
        (
            forever(
                OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"
            ),
            "too large",
        ),
        (forever(OK, b"X-Header: " + b"x" * 60000 + b"\r\n"), "no HTTP that can be read"),
        (forever(OK + b"X: ", b"x" * 65536), "no HTTP that can be read"),
        (forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "too large"),
        (forever(OK + b"\r\n", b"x", pause_s=0.05), "no answer within 0.5 s"),
        (forever(b"", b"x", pause_s=0.05), "no answer within 0.5 s"),
        (sends(b"<html>\r\n\r\n"), "no HTTP that can be read"),
        (sends(b""), "closed connection without response"),
        (sends(with_length(b"<html>")), "its answer is not JSON"),
        (sends(with_length(b"[" * 100_000)), "its answer is not JSON"),
        (sends(with_length(b"[]")), "its answer is not a JSON object"),
        (
            sends(b"HTTP/1.1 404 No\r\nContent-Length: 15\r\n\r\n" + b'{"error": "hm"}'),
            "HTTP 404: hm",
        ),
    ],
)
def test_what_is_no_answer_is_one_sentence(
    answer: Callable[[socket.socket], None], said: str
) -> None:
    started = time.monotonic()
    with server(answer) as port, pytest.raises(EnvironmentFailedError) as caught:
        get_json("127.0.0.1", port, "/v2", timeout_s=0.5 if "0.5" in said else 60)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500
    assert time.monotonic() - started < 60


def test_a_body_as_large_as_allowed_is_read() -> None:
    with server(sends(with_length(b"x" * LARGEST_ANSWER_BYTES))) as port:
        assert len(get("127.0.0.1", port, "/", timeout_s=60).body) == LARGEST_ANSWER_BYTES


@pytest.mark.parametrize(
    "body",
    [
        b"you sent hunter2/hunter2",
        rb'{"error": "you sent hunter2\/hunter2"}',
        rb'{"error": "you sent \u0068unter2\u002Fhunter2"}',
    ],
)
def test_a_secret_that_a_server_echoes_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setenv("A_TOKEN", "hunter2/hunter2")
    access = Access(token_env="A_TOKEN")

    def echo(connection: socket.socket) -> None:
        head = b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)

    with server(echo) as port, pytest.raises(EnvironmentFailedError, match=r"you sent \*\*\*"):
        get_json("127.0.0.1", port, "/v2", access=access, timeout_s=60)
