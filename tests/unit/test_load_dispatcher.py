"""Requests that are handed out are nobody's for a moment: they are neither lost nor counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import numpy as np

from harness.load.arrivals import Schedule
from harness.load.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt


class At:
    """Arrival times that are known."""

    def __init__(self, times_s: npt.NDArray[np.float64]) -> None:
        self._times_s = times_s

    def chunks(self) -> Iterator[npt.NDArray[np.float64]]:
        yield self._times_s


def test_a_request_is_unsent_until_a_user_has_taken_it_up() -> None:
    count, taken, seen = 50, [], []
    dispatcher = Dispatcher(Schedule(At(np.zeros(count)), 0))

    def user() -> None:
        while (due_ns := dispatcher.take()) is not None:
            taken.append(due_ns)

    users = [gevent.spawn(user) for _ in range(3)]
    while len(taken) < count:
        seen.append(dispatcher.unsent(0, 1) + len(taken))
        gevent.sleep(0)
    dispatcher.stop()
    gevent.joinall(users)
    assert set(seen) == {count}
    assert len(taken) == count
    assert dispatcher.unsent(0, 1) == 0
