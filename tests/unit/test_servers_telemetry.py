from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from harness.records import TELEMETRY_COLUMNS
from harness.servers.readings import telemetry as module
from harness.servers.readings.telemetry import Telemetry
from tests.footprint import wait_until

BUSY = "while True: sum(range(1000))"
PATIENCE_S = 30.0  # the thread that reads may be held up


@pytest.fixture
def telemetry():  # noqa: ANN201
    with Telemetry(0.02) as telemetry:
        yield telemetry


def test_a_busy_process_and_the_host_are_read(telemetry: Telemetry) -> None:
    rows: list[tuple[int, str, int, float, int]] = []

    def enough() -> bool:
        rows.extend(telemetry.drain())
        used_s = [row[3] for row in rows if row[1] == "server"]
        return len(rows) > 60 and used_s[-1] - used_s[0] > 0.5  # others may be busy too

    with subprocess.Popen([sys.executable, "-c", BUSY]) as busy:
        start_ns = time.monotonic_ns()
        telemetry.start(lambda: [("server", busy.pid)])
        wait_until(enough)
        telemetry.stop()
        rows += telemetry.drain()
        busy.kill()
    assert len(TELEMETRY_COLUMNS) == len(rows[0])
    for role, pid in (("server", busy.pid), ("host", 0)):
        own = [row for row in rows if row[1] == role]
        assert len(own) > 20
        assert {row[2] for row in own} == {pid}
        assert all(a[0] < b[0] and a[3] <= b[3] for a, b in pairwise(own))
        assert start_ns < own[0][0] < own[-1][0] < time.monotonic_ns()
        used = (own[-1][3] - own[0][3]) / ((own[-1][0] - own[0][0]) / 1e9)
        assert 0.01 < used < (os.cpu_count() or 1) + 0.5
    # The first reading may come before the program has begun.
    assert max(row[4] for row in rows if row[1] == "server") > 1e6
    assert min(row[4] for row in rows if row[1] == "host") > 1e6


def test_what_is_gone_is_left_out_and_what_comes_is_found(telemetry: Telemetry) -> None:
    def sleeper() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "81"])

    with sleeper() as first, sleeper() as second:
        listed = [("server", first.pid), ("stub", 999_999_999)]
        telemetry.start(lambda: listed)
        telemetry.refresh(PATIENCE_S)
        assert {row[2] for row in telemetry.drain()} == {first.pid, 0}
        first.kill()
        first.wait()
        listed.append(("stub", second.pid))
        telemetry.refresh(PATIENCE_S)
        telemetry.drain()
        telemetry.refresh(PATIENCE_S)
        assert {row[2] for row in telemetry.drain()} == {second.pid, 0}
        second.kill()


def test_a_listing_that_fails_breaks_nothing(telemetry: Telemetry) -> None:
    def fail() -> list[tuple[str, int]]:
        raise RuntimeError("the server is gone")

    telemetry.start(fail)
    telemetry.refresh(PATIENCE_S)
    assert {row[1] for row in telemetry.drain()} == {"host"}


def test_a_drained_reading_comes_once(telemetry: Telemetry) -> None:
    telemetry.start(lambda: [("generator", os.getpid())])
    drained = []
    for _ in range(20):
        time.sleep(0.01)
        drained += telemetry.drain()
    telemetry.stop()
    drained += telemetry.drain()
    assert telemetry.drain() == []
    assert len(drained) == len(set(drained))
    assert [row[0] for row in drained] == sorted(row[0] for row in drained)


def test_asking_for_readings_does_not_thin_them_out() -> None:
    asked, interval_s = 300, 0.1
    with Telemetry(interval_s) as telemetry:
        telemetry.start(list)
        for _ in range(asked):
            telemetry.refresh()
        telemetry.drain()
        rows: list[object] = []
        # Far below what so many postponed readings would take.
        wait_until(lambda: rows.extend(telemetry.drain()) or len(rows) >= 10, asked * interval_s)


def test_stopping_twice_and_never_starting_are_fine() -> None:
    telemetry = Telemetry()
    telemetry.refresh()
    telemetry.stop()
    telemetry.stop()
    assert telemetry.drain() == []


def test_memory_is_bounded_while_nobody_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_READINGS", 20)
    with Telemetry(0.001) as telemetry:
        telemetry.start(list)
        telemetry.refresh(PATIENCE_S)
        began_ns = time.monotonic_ns()
        wait_until(lambda: telemetry._readings.pace > 4)
        rows = telemetry.drain()
    assert len(rows) <= 20
    assert rows[0][0] < began_ns  # none of the beginning is lost
