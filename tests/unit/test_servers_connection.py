from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tritonclient.utils import InferenceServerException

from harness.servers import connection as module
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


def test_it_is_asked_again_within_its_deadline_alone(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept_s: list[float] = []  # by a clock that nothing holds up
    clock = SimpleNamespace(monotonic=lambda: sum(slept_s), sleep=slept_s.append)
    monkeypatch.setattr(module, "time", clock)
    call = Broken(10**9)
    with pytest.raises(ConnectionBrokenError, match="reading: it broke"):
        connection.read("reading", call, deadline_s=0.5)
    assert 0.3 <= sum(slept_s) <= 0.5
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
