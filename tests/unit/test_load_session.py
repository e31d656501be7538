"""Levels of a load by hand, without Locust: users are counted as it would, and one greenlet sends."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import gevent
import pytest

from harness.load.byhand import session as module
from harness.load.byhand.sent import Sent
from harness.load.byhand.session import Session
from harness.load.target import Target
from harness.point import Workload
from harness.scenario import parse_scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.load.byhand.notebook import Notebook
    from harness.point import Load

NOBODY = "127.0.0.1:1"  # tells no statistics
RAMP = "{kind: ramp, from: 50, to: 100, over: 400ms, arrivals: constant}"
LONG = "{kind: ramp, from: 50, to: 100, over: 1h, arrivals: constant}"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process is held up for does not end a shape before all is sent."""
    monkeypatch.setattr(module, "TAIL_NS", 60_000_000_000)


class Trials(list[dict[str, Any]]):
    """Stands in for a notebook."""

    def seal(self, *_: object, **seen: Any) -> None:
        self.append(seen)


def load_of(text: str, folder: Path | None = None) -> Load:
    (load,) = parse_scenario(
        f"sweep: {{load: {text}}}", name="x", where="x", folder=folder
    ).sweep.loads
    return load


class Users:
    """One user of a session, as Locust would start and stop it; it keeps when its requests were due."""

    def __init__(self, load: Load) -> None:
        self.trials = Trials()
        sent = Sent(
            target=Target(http=NOBODY, grpc=None, model="m"),
            workload=Workload(),
            pool=cast("Any", SimpleNamespace(requests=[b""])),
            load=lambda _: load,
            request_timeout_s=1,
            seed=1,
        )
        self.session = Session(sent, cast("Notebook", self.trials))
        self.due_ns: list[int] = []
        self.greenlet = gevent.spawn(self._send)

    def _send(self) -> None:
        while True:
            dispatcher = self.session.dispatcher
            if dispatcher is None:
                gevent.sleep(0.005)
            elif due_ns := dispatcher.take():
                self.due_ns.append(due_ns)

    def start(self) -> None:
        self.session.joined()
        self.session.wanted(1)

    def stop(self) -> None:
        self.session.wanted(0)
        self.session.gone()

    def wait_until_finished(self) -> None:
        with gevent.Timeout(30, AssertionError("the shape never ends")):
            while not self.session.finished:
                gevent.sleep(0.01)


@pytest.fixture
def ramp() -> Iterator[Users]:
    users = Users(load_of(RAMP))
    yield users
    users.greenlet.kill()


@pytest.fixture
def long() -> Iterator[Users]:
    users = Users(load_of(LONG))
    yield users
    users.greenlet.kill()


def test_a_shape_is_sent_without_statistics_and_ends(ramp: Users) -> None:
    ramp.start()
    ramp.wait_until_finished()
    ramp.session.close()
    (trial,) = ramp.trials
    assert len(ramp.due_ns) == 30
    assert "failure" not in trial
    assert trial["statistics"] is None
    assert "refused" in trial["statistics_note"]
    assert trial["window_start_ns"] <= trial["shape_start_ns"] < min(ramp.due_ns)
    assert max(ramp.due_ns) < trial["window_end_ns"]


def test_a_shape_can_be_sent_again(ramp: Users) -> None:
    for times in (1, 2):
        assert not ramp.session.finished
        ramp.start()
        ramp.wait_until_finished()
        ramp.stop()
        assert not ramp.session.finished
        assert len(ramp.due_ns) == 30 * times
    ramp.session.close()
    assert ["failure" in trial for trial in ramp.trials] == [False, False]


def test_a_shape_that_is_left_before_its_end_has_failed(long: Users) -> None:
    for times in (1, 2):
        long.start()
        with gevent.Timeout(30, AssertionError("nothing is sent")):
            while len(long.due_ns) < 3 * times:
                gevent.sleep(0.01)
        long.stop()
        gevent.sleep(0.05)  # whoever watched the level learns of it
        assert not long.session.finished
    long.session.close()
    assert [trial["failure"] for trial in long.trials] == ["the shape was left before its end"] * 2


def test_a_shape_that_loses_a_user_ends(long: Users) -> None:
    long.start()
    long.session.gone()
    long.wait_until_finished()
    long.session.close()


def test_a_replay_whose_file_has_changed_ends_and_has_failed(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("0.1\n0.2\n")
    users = Users(load_of("{kind: replay, file: log.csv}", tmp_path))
    path.write_text("0.1\n")
    users.start()
    users.wait_until_finished()
    users.session.close()
    users.greenlet.kill()
    (trial,) = users.trials
    assert "has changed" in trial["failure"]
    assert trial["window_start_ns"] is None


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_nothing_of_a_closed_session_goes_on() -> None:
    load = load_of(RAMP)
    Users(load).session.close()
    gevent.sleep(0)
    gc.collect()  # what other tests have left takes its descriptors along
    before = descriptors()
    sessions = [Users(load).session for _ in range(5)]
    gevent.sleep(0.05)  # their hearts beat
    assert len(descriptors()) >= len(before) + 5
    for session in sessions:
        session.close()
    gevent.sleep(0)
    assert descriptors() == before
