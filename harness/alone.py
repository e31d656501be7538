"""Is a request answered within a window when nothing else is sent? Else there is nothing to measure in it.

Under load a request may well take longer than a window, because it waits for others: that is a verdict on
the point. One that takes longer all by itself makes the scenario a wrong one for that model on that server,
and this is known before its first window.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import UsageError
from harness.interrupt import heed
from harness.load.recorder import ANSWERED
from harness.point import ClosedLoad

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.load.driver import Driver
    from harness.point import Point, Workload
    from harness.scenario import Scenario

__all__ = ["Alone"]

# A machine may stand still during one request, and each instance may be slow at its first one. So one
# request that is quick enough settles it, and it takes this many slow ones more than there are instances.
ATTEMPTS = 2
LOOK_INTERVAL_S = 0.005


class Alone:
    """How long requests take alone, as far as the windows of a scenario need that known.

    Args:
        scenario: whose windows they are.
        driver: sends them.
        check: raises where the server or the generator has failed.
    """

    def __init__(self, scenario: Scenario, driver: Driver, check: Callable[[], None]) -> None:
        self._scenario = scenario
        self._driver = driver
        self._check = check
        self._took_s: dict[tuple[str, Workload], float] = {}

    def require_fit(self, point: Point) -> None:
        """See that a request of ``point`` alone fits into its window; asked once for all of its load levels.

        The load is drained where it was not known. What fails, or is rejected, is for the trial to tell.

        Raises:
            UsageError: it does not fit.
            EnvironmentFailedError: the server or the generator failed.
        """
        measure, configuration = self._scenario.measure, point.configuration
        window_s = point.load.duration_s or measure.window_s
        # Alone it waits in vain for others to share its batch; under load it may not.
        batching = configuration.dynamic_batching
        idle_s = batching.max_queue_delay_us / 1e6 if batching else 0.0
        key = configuration.key, point.workload
        if self._took_s.get(key, np.inf) <= window_s + idle_s:
            return
        attempts = ATTEMPTS + configuration.instances
        took_s = self._took_s[key] = self._quickest_s(point.workload, window_s + idle_s, attempts)
        if took_s <= window_s + idle_s:
            return
        name, own = self._scenario.name, point.load.duration_s is not None
        raise UsageError(
            f"one request of {point.key} takes {took_s:.3g} s when nothing else is sent, longer than its"
            f" window of {window_s:g} s, in which it could not be measured",
            where=f"scenario {name}: {'sweep.load' if own else 'measure.window'}",
            remedy=f"Make {'this load last' if own else 'measure.window'} several times as long as a request takes",
        )

    def _quickest_s(self, workload: Workload, enough_s: float, attempts: int) -> float:
        """The shortest time from sent to answered, of so many requests or until one is short enough.

        0 where one is not answered: then nothing is known against the window.
        """
        timeout_s = self._scenario.measure.request_timeout_s
        self._driver.pause(timeout_s=timeout_s)
        start_ns = time.monotonic_ns()
        self._driver.level(workload, ClosedLoad(concurrency=1), request_timeout_s=timeout_s)
        while True:
            time.sleep(LOOK_INTERVAL_S)
            heed()
            self._check()
            samples, _ = self._driver.collect(start_ns, time.monotonic_ns())
            if not np.isin(samples["outcome"], ANSWERED).all():
                return 0.0
            took_s = (samples["done_ns"] - samples["sent_ns"]) / 1e9
            quickest_s = float(took_s.min(initial=np.inf))
            if quickest_s <= enough_s or len(samples) >= attempts:
                return quickest_s
