from __future__ import annotations

import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np

from harness.records import METRIC_COLUMNS
from harness.servers.readings import metric_log
from harness.servers.readings.metric_log import MetricLog, Source
from tests.footprint import wait_until

if TYPE_CHECKING:
    import pytest


class Counter:
    name = "counter"

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> list[tuple[str, str, float]]:
        self.reads += 1
        return [("reads", "{}", float(self.reads))]


class Failing(Counter):
    name = "failing"

    def read(self) -> list[tuple[str, str, float]]:
        super().read()
        raise RuntimeError("the port has gone")


class Hanging(Counter):
    name = "hanging"

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def read(self) -> list[tuple[str, str, float]]:
        self.let_go.wait(60)
        return super().read()


def test_readings_are_rows_in_the_order_of_time() -> None:
    start_ns = time.monotonic_ns()
    with MetricLog(0.01) as log:
        log.start([Counter()])
        rows: list[tuple[int, str, str, str, float]] = []
        wait_until(lambda: rows.extend(log.drain()) or len(rows) >= 5)
    assert len(rows[0]) == len(METRIC_COLUMNS)
    assert [row[1:4] for row in rows[:5]] == [("counter", "reads", "{}")] * 5
    assert [row[4] for row in rows[:5]] == [1, 2, 3, 4, 5]
    moments = [row[0] for row in rows]
    assert moments == sorted(moments)
    assert start_ns < moments[0] < time.monotonic_ns()


def test_a_source_that_fails_or_hangs_takes_nothing_from_the_others() -> None:
    counter, failing, hanging = Counter(), Failing(), Hanging()
    sources: list[Source] = [failing, hanging, counter]
    with MetricLog(0.01) as log:
        log.start(sources)
        wait_until(lambda: counter.reads > 10)
        assert {row[1] for row in log.drain()} == {"counter"}
        assert failing.reads < counter.reads / 2  # not tried again for a while
    hanging.let_go.set()
    time.sleep(0.05)
    assert {row[1] for row in log.drain()} <= {"counter"}  # it has been stopped meanwhile


def test_asking_waits_for_a_reading_after_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_log, "PATIENCE_S", 30)
    with MetricLog(60) as log:
        log.start([Counter()])
        wait_until(lambda: len(log.drain()) > 0)
        asked_ns = time.monotonic_ns()
        log.refresh()
        assert [row[0] > asked_ns for row in log.drain()] == [True]


def test_asked_within_a_reading_it_reads_once_more() -> None:
    class Slow(Counter):
        def __init__(self) -> None:
            super().__init__()
            self.may_end = threading.Semaphore(0)
            self.began = 0

        def read(self) -> list[tuple[str, str, float]]:
            self.began += 1
            self.may_end.acquire(timeout=60)
            return super().read()

    slow = Slow()
    with MetricLog(60) as log:
        log.start([slow])
        wait_until(lambda: slow.began == 1)
        (reader,) = log._readers
        assert reader.ask()
        slow.may_end.release()
        wait_until(lambda: slow.began == 2)
        assert not reader.answered.is_set()
        slow.may_end.release()
        assert reader.answered.wait(60)


def test_asking_does_not_wait_for_what_failed() -> None:
    failing = Failing()
    with MetricLog(60) as log:
        log.start([failing])
        wait_until(lambda: failing.reads == 1)
        start = time.monotonic()
        for _ in range(1000):
            log.refresh()
        assert time.monotonic() - start < 1000 * metric_log.PATIENCE_S / 10


def test_a_costly_source_is_read_less_often() -> None:
    class Costly(Counter):
        name = "costly"

        def read(self) -> list[tuple[str, str, float]]:
            until = time.thread_time() + 0.02
            while time.thread_time() < until:
                pass
            return super().read()

    slow, quick = Costly(), Counter()
    with MetricLog(0.01) as log:
        log.start([slow, quick])
        wait_until(lambda: slow.reads >= 3 and quick.reads >= 20)
        rows = log.drain()
    gaps_s = {
        name: np.diff([row[0] for row in rows if row[1] == name]) / 1e9
        for name in ("costly", "counter")
    }
    # Two readings are at least 0.4 s apart, a twentieth of which it computed.
    assert min(gaps_s["costly"]) >= 0.4
    # What holds this machine up keeps the other from being read as often, but not always.
    assert min(gaps_s["counter"]) < 0.2


def test_memory_is_bounded_while_nobody_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_log, "MOST_READINGS", 10)
    counter = Counter()
    with MetricLog(0.001) as log:
        log.start([counter])
        wait_until(lambda: counter.reads > 30)
        rows = log.drain()
    assert len(rows) <= 10
    assert rows[0][4] == 1  # none of the beginning is lost
    assert rows[-1][4] > 20


def test_stopping_twice_and_never_starting_are_fine() -> None:
    log = MetricLog()
    log.refresh()
    log.stop()
    log.stop()
    assert log.drain() == []


def test_a_long_run_takes_no_more_memory_than_a_short_one() -> None:
    """A thousand trials' worth of readings, drained after each trial as in a run."""

    class Many:
        name = "many"

        def read(self) -> list[tuple[str, str, float]]:
            return [(f"name{place}", "{}", time.monotonic()) for place in range(60)]

    def drained(log: MetricLog, rows: int) -> int:
        seen = 0
        while seen < rows:
            log.refresh()
            seen += len(log.drain())
        return tracemalloc.get_traced_memory()[0]

    with MetricLog(60) as log:  # read when asked: nothing comes while memory is looked at
        log.start([Many()])
        tracemalloc.start()
        try:
            first_bytes = drained(log, 3_000)
            last_bytes = drained(log, 60_000)
        finally:
            tracemalloc.stop()
    # Sixty thousand rows would be more than six megabytes.
    assert last_bytes - first_bytes < 500_000
