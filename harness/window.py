"""The window of a trial: the warm-up before it, and its time, which a server or generator that dies cuts short."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.interrupt import heed
from harness.statistics.truncation import mser5

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.load.driver import Driver
    from harness.point import Load
    from harness.scenario import Measure

__all__ = ["let_pass", "settle"]

# How often the server and the generator are looked at while a window passes, in seconds.
WATCH_INTERVAL_S = 0.2
# How often the warm-up is judged, in seconds.
SETTLE_INTERVAL_S = 0.1
# How often one looks whether a shape that has come to its end is answered, and for how long at most.
LOOK_NS = 10_000_000
TAIL_NS = 1_000_000_000


def settle(driver: Driver, measure: Measure, check: Callable[[], None]) -> str:
    """Wait until the warm-up has passed, and say how that was judged.

    Args:
        driver: of the load that is on.
        measure: for how long at least and at most.
        check: raises where the server or the generator is no longer up.
    """
    start = time.monotonic()
    _watch(time.monotonic_ns() + round(measure.warmup_min_s * 1e9), check)
    while True:
        truncation = mser5(driver.latencies())
        elapsed_s = time.monotonic() - start
        check()
        if truncation.settled:
            return f"{elapsed_s:.2f} s, {truncation.reason}"
        if elapsed_s >= measure.warmup_max_s:
            return f"{elapsed_s:.2f} s, the longest allowed; {truncation.reason}"
        time.sleep(SETTLE_INTERVAL_S)


def let_pass(
    driver: Driver,
    load: Load,
    window_s: float,
    start_ns: int,
    check: Callable[[], None],
    on_shape: Callable[[int], None],
) -> None:
    """Let the window pass: as long as the scenario or the load says, or until a shape is answered.

    Args:
        driver: of the load that is on.
        load: what it sends.
        window_s: the scenario's.
        start_ns: when the window began, CLOCK_MONOTONIC.
        check: raises where the server or the generator is no longer up.
        on_shape: is told when the load's shape began.
    """
    if load.kind != "shaped":
        _watch(start_ns + round((load.duration_s or window_s) * 1e9), check)
        return
    shape_ns = driver.launch()
    on_shape(shape_ns)
    end_ns = shape_ns + round(load.duration_s * 1e9)
    _watch(end_ns, check)
    while driver.left() and time.monotonic_ns() < end_ns + TAIL_NS:
        _watch(time.monotonic_ns() + LOOK_NS, check)


def _watch(end_ns: int, check: Callable[[], None]) -> None:
    while (left_s := (end_ns - time.monotonic_ns()) / 1e9) > 0:
        time.sleep(min(left_s, WATCH_INTERVAL_S))
        heed()
        check()
