"""Where the container engine is looked for, and what becomes of calls and their errors."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import requests
from docker import APIClient
from docker.errors import APIError, DockerException

from harness.errors import EnvironmentFailedError
from harness.servers.container import engine
from harness.servers.owner import identity, is_orphaned

if TYPE_CHECKING:
    from pathlib import Path

    from docker import DockerClient


def test_the_address_is_the_environments_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///some/where.sock")
    assert engine.address() == "unix:///some/where.sock"


def test_without_docker_podmans_socket_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "DOCKER_SOCKET", tmp_path / "none.sock")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert engine.address() == f"unix://{engine.DOCKER_SOCKET}"
    (tmp_path / "podman").mkdir()
    (tmp_path / "podman" / "podman.sock").touch()
    assert engine.address() == f"unix://{tmp_path}/podman/podman.sock"
    (tmp_path / "docker.sock").touch()
    assert engine.address() == f"unix://{tmp_path}/docker.sock"


def test_what_the_engine_says_is_passed_on_in_one_line() -> None:
    response = requests.Response()
    response.status_code = 500
    with (
        pytest.raises(EnvironmentFailedError, match="it failed: first second"),
        engine.engine_errors("it failed"),
    ):
        raise APIError("x", response=response, explanation="first\n  second")
    with (
        pytest.raises(EnvironmentFailedError, match="it failed: the container engine does not"),
        engine.engine_errors("it failed"),
    ):
        raise requests.exceptions.ConnectionError("gone")


def test_an_engine_that_goes_in_the_midst_of_its_answer_is_said_to_have_gone() -> None:
    """The SDK lets its library's own error through where it reads a stream."""
    chunk = b'{"status": "Pulling"}'
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (
        len(chunk),
        chunk,
    )

    def answer_in_part() -> None:
        visitor, _ = listener.accept()
        with visitor:
            visitor.recv(1 << 16)
            visitor.sendall(begun)

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        contextlib.closing(
            APIClient(f"tcp://127.0.0.1:{listener.getsockname()[1]}", "1.41")
        ) as api,
    ):
        visited = threading.Thread(target=answer_in_part)
        visited.start()
        events = api.pull("x", "1", stream=True, decode=True)
        visited.join()
        assert next(events) == {"status": "Pulling"}
        with (
            pytest.raises(EnvironmentFailedError, match="it failed: the container engine does not"),
            engine.engine_errors("it failed"),
        ):
            next(events)


def test_an_interrupt_waits_for_the_call_to_end() -> None:
    done = threading.Event()

    def call() -> None:
        time.sleep(0.1)  # until its end is waited for
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.3)
        done.set()

    with pytest.raises(KeyboardInterrupt):
        engine.uninterrupted(call)
    assert done.is_set()


@pytest.mark.parametrize("late_s", [0.0, 0.1], ids=["at-once", "within-the-call"])
def test_an_interrupt_while_the_call_begins_loses_no_call(
    monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    """Else a container comes to be after the clean-up, and stays."""
    made, ended = threading.Event(), threading.Event()
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        time.sleep(late_s)
        raise KeyboardInterrupt

    def call() -> None:
        made.set()
        time.sleep(0.3)
        ended.set()

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.uninterrupted(call)
    left = ended.is_set() != made.is_set()
    time.sleep(0.5)
    assert not left
    assert ended.is_set() == made.is_set()


def test_a_call_gives_its_answer_or_its_error() -> None:
    assert engine.uninterrupted(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        engine.uninterrupted(lambda: 1 // 0)


BUSY = APIError("device or resource busy")
SILENT = requests.exceptions.ReadTimeout("no answer within 60 s")


@pytest.mark.parametrize(
    ("said", "gone", "asked"),
    [
        ([], True, 1),
        ([BUSY, BUSY], True, 3),
        ([BUSY] * 9, False, engine.REMOVALS),
        ([SILENT], False, 1),
        ([DockerException("no engine")], False, 1),
    ],
)
def test_an_engine_that_is_busy_is_asked_again_and_one_that_is_silent_is_not(
    monkeypatch: pytest.MonkeyPatch, said: list[Exception], gone: bool, asked: int
) -> None:
    monkeypatch.setattr(engine, "REMOVAL_PAUSE_S", 0.0)
    answers, calls = iter(said), []

    def remove_container(name: str, **_: object) -> None:
        calls.append(name)
        for refusal in answers:
            raise refusal

    client = SimpleNamespace(api=SimpleNamespace(remove_container=remove_container))
    assert engine.remove(cast("DockerClient", client), "mine") is gone
    assert len(calls) == asked


def test_a_process_knows_itself_and_another_life() -> None:
    me = identity()
    assert not is_orphaned(me)
    pid, created = me["owner"]
    assert is_orphaned(me | {"owner": [pid, created - 100]})
    assert is_orphaned(me | {"boot": "another"})
    # A process of another namespace cannot be seen from here: it may live.
    assert not is_orphaned(me | {"namespace": "pid:[1]", "owner": [2**22, created]})
