"""Reads how the load generator fares, 100 times a second, in its own event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent

from harness.load.health import HEARTBEAT_NS, Readings
from harness.load.timer import Timer

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Heart"]


class Heart:
    """A timer that notes how late it fires, and the CPU time used so far.

    Attributes:
        readings: since the start, or since they were last replaced.
    """

    def __init__(self) -> None:
        self.readings = Readings()
        self._greenlet = gevent.spawn(self._beat)

    def stop(self) -> None:
        """Read no more."""
        self._greenlet.kill()

    def _beat(self) -> NoReturn:
        timer = Timer()
        try:
            while True:
                due_ns = time.monotonic_ns() + HEARTBEAT_NS
                timer.wait_until(due_ns)
                now_ns = time.monotonic_ns()
                self.readings.add(now_ns, now_ns - due_ns, time.process_time_ns())
        finally:
            timer.close()
