"""Readings that wait to be drained: evenly fewer of them once there are many, none of the beginning lost."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

__all__ = ["Kept"]

Row = TypeVar("Row")


class Kept(Generic[Row]):
    """Rows of several series, from several threads.

    Beyond ``most`` every other row of each series is dropped, and half as many are asked for from then on:
    the window of a soak lasts for hours.

    Args:
        most: rows that are kept.
        series: which series a row belongs to.

    Attributes:
        pace: how many times longer than usual to wait between two readings.
    """

    def __init__(self, most: int, series: Callable[[Row], Hashable]) -> None:
        self.pace = 1
        self._most = most
        self._series = series
        self._rows: list[Row] = []
        self._lock = threading.Lock()

    def extend(self, rows: Iterable[Row]) -> None:
        """Add rows, in the order of time."""
        with self._lock:
            self._rows.extend(rows)
            if len(self._rows) > self._most:
                self._thin()

    def drain(self) -> list[Row]:
        """Give all rows away, and read as often as usual again."""
        with self._lock:
            rows, self._rows, self.pace = self._rows, [], 1
        return rows

    def _thin(self) -> None:
        seen: Counter[Hashable] = Counter()
        kept = []
        for row in self._rows:
            series = self._series(row)
            seen[series] += 1
            if seen[series] % 2:  # the first of each, with which a difference begins
                kept.append(row)
        self._rows = kept
        self.pace *= 2
