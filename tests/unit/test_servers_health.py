from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from harness.servers import health as module
from harness.servers.health import Health
from harness.servers.inquiry import answers, metadata
from harness.servers.server import Endpoints
from tests.footprint import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.servers.server import ProcessRole


class Answer(http.server.BaseHTTPRequestHandler):
    status = 200
    body = b"{}"
    header = "x"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("X-Any", self.header)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who asked has heard enough
            self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Endpoints, type[Answer]]]:
    kind = type("Own", (Answer,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Endpoints("127.0.0.1", server.server_port, 0), kind
        server.shutdown()
        thread.join()


@dataclass
class Fake:
    """A server whose processes and end are what the test says."""

    endpoints: Endpoints
    stubs: list[subprocess.Popen[bytes]] = field(default_factory=list)
    end: str | None = None
    log: Path | None = None

    def describe(self) -> dict[str, Any]:
        return {}

    def processes(self) -> list[tuple[ProcessRole, int]]:
        return [("stub", stub.pid) for stub in self.stubs]

    def failure(self) -> str | None:
        return self.end

    def stop(self) -> None:
        for stub in self.stubs:
            stub.kill()
            stub.wait()


@pytest.fixture
def server(answer: tuple[Endpoints, type[Answer]]) -> Iterator[Fake]:
    fake = Fake(answer[0])
    yield fake
    fake.stop()


def stub(root: Path, model: str, instance: str) -> subprocess.Popen[bytes]:
    """A process with the command line of a stub: a shell takes its first word for a script."""
    script = root / model / "1" / "model.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text("kill -STOP $$\n")
    words = ["stub", str(script), "region", "1", "1", "2", "folder", "3", instance, "DEFAULT"]
    process = subprocess.Popen(words, executable="/bin/sh")
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    return process


def test_all_is_well(server: Fake, tmp_path: Path) -> None:
    health = Health(server)
    server.stubs = [stub(tmp_path, "m", "m_0_0")]
    health.settle()
    assert health.failure() is None


def test_a_dead_server_is_its_own_reason(server: Fake) -> None:
    server.end = "the server was ended by SIGKILL"
    assert Health(server).failure() == server.end


def test_a_dead_stub_is_named(server: Fake, tmp_path: Path) -> None:
    server.stubs = [stub(tmp_path, "m", "m_0_0"), stub(tmp_path, "m", "m_0_1")]
    health = Health(server)
    health.settle()
    server.stubs[1].kill()
    wait_until(health.failure)
    assert f"the Python stub of m_0_1 (process {server.stubs[1].pid}) has died" in health.failure()


def test_the_old_stub_of_an_instance_may_go(server: Fake, tmp_path: Path) -> None:
    old = stub(tmp_path, "m", "m_0_0")
    new = stub(tmp_path, "m", "m_0_0")
    server.stubs = [new, old]
    health = Health(server)
    health.settle()
    old.kill()
    old.wait()
    assert health.failure() is None
    new.kill()
    wait_until(health.failure)


def test_only_the_models_that_are_named_count(server: Fake, tmp_path: Path) -> None:
    other, mine = stub(tmp_path, "m_0", "m_0_0_0"), stub(tmp_path, "m", "m_0_0")
    server.stubs = [other, mine]
    health = Health(server)
    health.settle("m")
    other.kill()
    other.wait()
    assert health.failure() is None
    mine.kill()
    wait_until(health.failure)
    server.stubs.append(stub(tmp_path, "m", "m_0_0"))
    health.settle("m")
    assert health.failure() is None


def test_a_stub_that_is_one_too_many_may_go(server: Fake, tmp_path: Path) -> None:
    """After a change from two instances to one, the second one's stub lingers and then goes."""
    server.stubs = [stub(tmp_path, "m", "m_0_0"), stub(tmp_path, "m", "m_0_1")]
    health = Health(server)
    health.settle("m", instances=1)
    server.stubs[1].kill()
    server.stubs[1].wait()
    assert health.failure() is None
    server.stubs[0].kill()
    wait_until(health.failure)


def test_two_instances_may_have_one_name(server: Fake, tmp_path: Path) -> None:
    """From two instances to one and back: Triton keeps m_0_1, and calls the new one m_0_1 too."""
    server.stubs = [stub(tmp_path, "m", "m_0_1"), stub(tmp_path, "m", "m_0_1")]
    health = Health(server)
    health.settle("m", instances=2)
    assert health.failure() is None
    server.stubs[0].kill()
    wait_until(health.failure)
    assert f"(process {server.stubs[0].pid}) has died" in str(health.failure())


def test_an_instance_without_a_stub_is_missed_from_the_start(server: Fake, tmp_path: Path) -> None:
    server.stubs = [stub(tmp_path, "m", "m_0_0")]
    health = Health(server)
    health.settle("m", instances=2)
    assert "of the 2 instances of m only 1 have a Python stub" in str(health.failure())
    health.release()
    assert health.failure() is None
    server.stubs.append(stub(tmp_path, "m", "m_0_1"))
    health.settle("m", instances=2)
    assert health.failure() is None


def test_a_model_without_stubs_misses_none(server: Fake, tmp_path: Path) -> None:
    server.stubs = [stub(tmp_path, "other", "other_0_0")]
    health = Health(server)
    health.settle("m", instances=2)
    assert health.failure() is None


def test_a_silent_server_is_given_up_after_a_while_and_taken_back_when_it_answers(
    server: Fake, answer: tuple[Endpoints, type[Answer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.0)
    monkeypatch.setattr(module, "FROZEN_S", 60.0)
    health = Health(server)
    assert health.failure() is None
    answer[1].status = 503
    monkeypatch.setattr(module, "FROZEN_S", 0.3)
    start = time.monotonic()
    assert "has not answered for 0.3 s" in (health.failure() or "")
    assert time.monotonic() - start >= 0.3
    assert health.failure()
    answer[1].status = 200
    monkeypatch.setattr(module, "FROZEN_S", 60.0)
    assert health.failure() is None


def test_a_short_silence_is_no_failure(
    server: Fake, answer: tuple[Endpoints, type[Answer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FROZEN_S", 60.0)
    statuses = iter([503, 503, 503])
    answer[1].status = property(lambda _: next(statuses, 200))  # type: ignore[assignment]
    start = time.monotonic()
    assert Health(server).failure() is None
    assert time.monotonic() - start >= 0.25  # three pauses


def test_a_server_is_not_given_up_where_this_machine_was_held_up(
    server: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that took longer than it may proves nothing: the answer may have been there in time."""
    monkeypatch.setattr(module, "FROZEN_S", 0.4)
    monkeypatch.setattr(module, "HELD_UP_S", 0.1)
    asked: list[float] = []
    passed_s: list[float] = [1000.0]  # by a clock that nothing holds up but the first question

    def answers(_at: Endpoints, _path: str, timeout_s: float) -> bool:
        asked.append(timeout_s)
        if len(asked) == 1:
            passed_s.append(timeout_s + 0.2)
        return len(asked) > 1

    clock = SimpleNamespace(
        monotonic=lambda: sum(passed_s),
        monotonic_ns=lambda: round(sum(passed_s) * 1e9),
        sleep=passed_s.append,
    )
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.4)
    monkeypatch.setattr(module, "answers", answers)
    health = Health(server)
    assert health.failure() is None
    assert asked == [0.4, module.LAST_TIMEOUT_S]
    assert len(health.silences) == 0  # of less than a second


def test_a_server_whose_every_question_takes_too_long_is_given_up(
    server: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FROZEN_S", 0.4)
    monkeypatch.setattr(module, "HELD_UP_S", -1.0)  # as if held up each time
    monkeypatch.setattr(module, "answers", lambda *_: False)
    start = time.monotonic()
    assert "has not answered" in (Health(server).failure() or "")
    assert time.monotonic() - start >= 0.8


def test_a_server_that_dies_in_its_silence_is_not_waited_for(
    server: Fake, answer: tuple[Endpoints, type[Answer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FROZEN_S", 60.0)
    answer[1].status = 503
    timer = threading.Timer(0.2, lambda: setattr(server, "end", "it was ended by SIGKILL"))
    timer.start()
    assert Health(server).failure() == "it was ended by SIGKILL"
    timer.join()


def test_it_is_not_asked_more_often_than_needed(
    server: Fake, answer: tuple[Endpoints, type[Answer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_EVERY_S", 60.0)
    health = Health(server)
    assert health.failure() is None
    answer[1].status = 503
    assert health.failure() is None


def test_a_server_says_what_it_is(answer: tuple[Endpoints, type[Answer]]) -> None:
    at, kind = answer
    kind.body = b'{"name": "triton", "extensions": ["statistics"]}'
    assert metadata(at, 60) == {"name": "triton", "extensions": ["statistics"]}
    assert answers(at, "/v2/health/live", 60)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a": "' + b"x" * (2 << 20) + b'"}']
)
def test_a_hostile_answer_is_no_answer(answer: tuple[Endpoints, type[Answer]], body: bytes) -> None:
    at, kind = answer
    kind.body = body
    assert metadata(at) == {}


def test_huge_headers_and_a_closed_port_are_no_answer(
    answer: tuple[Endpoints, type[Answer]],
) -> None:
    at, kind = answer
    kind.header = "x" * 100_000
    assert not answers(at, "/v2/health/live")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert not answers(Endpoints("127.0.0.1", port, 0), "/")
