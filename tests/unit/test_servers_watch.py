from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from harness.servers import health, watch
from harness.servers.server import Endpoints
from harness.servers.watch import Watch
from tests.footprint import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.servers.server import ProcessRole


@dataclass
class Fake:
    """A server with a real process; its failure is what the test says."""

    process: subprocess.Popen[bytes]
    end: str | None = None
    looks: int = 0
    endpoints: Endpoints = field(default_factory=lambda: Endpoints("127.0.0.1", 1, 1))
    log: Path | None = None

    def describe(self) -> dict[str, Any]:
        return {}

    def processes(self) -> list[tuple[ProcessRole, int]]:
        return [("server", self.process.pid)]

    def failure(self) -> str | None:
        self.looks += 1
        return self.end

    def stop(self) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setattr(health, "answers", lambda *_: True)
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield Fake(process)
        process.kill()


def test_a_server_that_serves_is_left_alone(server: Fake) -> None:
    with Watch(server) as watched:
        wait_until(lambda: server.looks > 2)
        assert watched.failure() is None
        assert watched.confirmed() is None
    assert server.process.poll() is None


def test_what_has_failed_is_known_and_ended_so_that_nobody_waits_for_it(server: Fake) -> None:
    with Watch(server) as watched:
        assert watched.noticed_ns is None
        struck_ns = time.monotonic_ns()
        server.end = "it hangs"
        wait_until(watched.failure)
        assert struck_ns < (watched.noticed_ns or 0) < time.monotonic_ns()
        assert server.process.wait(60) == -9
        server.end = "it was ended by SIGKILL"
        assert (
            watched.confirmed() == watched.failure() == "it hangs"
        )  # the cause, not what followed


def test_a_failure_that_is_asked_for_at_once_is_looked_for(
    server: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "INTERVAL_S", 0.5)
    with Watch(server) as watched:
        server.end = "it has just died"
        assert watched.confirmed() == "it has just died"


def test_when_it_is_over_an_end_is_meant(server: Fake) -> None:
    with Watch(server) as watched:
        wait_until(lambda: server.looks > 0)
    server.end = "it was stopped"
    looks = server.looks
    time.sleep(2 * watch.INTERVAL_S)
    assert watched.failure() is None
    assert server.looks == looks


def test_a_silence_that_ended_is_noted(server: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SILENT_S", 0.2)
    monkeypatch.setattr(health, "FROZEN_S", 60.0)  # this process may be held up
    unanswered = iter(range(5))  # a tenth of a second apart
    monkeypatch.setattr(health, "answers", lambda *_: next(unanswered, None) is None)
    before_ns = time.monotonic_ns()
    with Watch(server) as watched:
        wait_until(lambda: watched.silences(before_ns))
        assert watched.silences(before_ns)[0] >= 0.2
        assert watched.silences(time.monotonic_ns()) == []
        assert watched.failure() is None
