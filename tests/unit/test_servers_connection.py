from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from tritonclient.utils import InferenceServerException

from harness.servers.connection import Connection, ConnectionBrokenError
from harness.servers.server import Endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection(Endpoints("127.0.0.1", 1, 1)) as connection:
        yield connection


class Broken:
    """A call whose connection breaks so many times before it is answered."""

    def __init__(self, times: int, status: str = "StatusCode.UNAVAILABLE") -> None:
        self.times = times
        self.status = status
        self.calls = 0

    def __call__(self, **_: Any) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise InferenceServerException("it broke", self.status)
        return "answer"


def test_what_only_reads_is_asked_again(connection: Connection) -> None:
    call = Broken(2)
    assert connection.read("reading", call) == "answer"
    assert call.calls == 3


def test_it_is_asked_again_within_its_deadline_alone(connection: Connection) -> None:
    call, started = Broken(10**9), time.monotonic()
    with pytest.raises(ConnectionBrokenError, match="reading: it broke"):
        connection.read("reading", call, deadline_s=0.5)
    assert time.monotonic() - started >= 0.3
    assert 2 <= call.calls <= 6


def test_what_changes_something_is_sent_once(connection: Connection) -> None:
    call = Broken(1)
    with pytest.raises(ConnectionBrokenError):
        connection.call("loading", call, deadline_s=10)
    assert call.calls == 1


def test_a_refusal_is_not_asked_again(connection: Connection) -> None:
    call = Broken(1, "StatusCode.NOT_FOUND")
    with pytest.raises(Exception, match="it broke"):
        connection.read("reading", call)
    assert call.calls == 1
