"""Counters and gauges beside the load: each source has a thread of its own that reads it now and then.

One that hangs keeps no other from being read, and none keeps the run: what cannot be read is left out.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol, Self

from harness.servers.readings.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.servers.readings.metrics import Metric

__all__ = ["MetricLog", "MetricReading", "Source"]

MetricReading = tuple[int, str, str, str, float]  # harness.records.METRIC_COLUMNS

INTERVAL_S = 0.25
LARGEST_SHARE = 0.05  # of one core, that reading a source may cost
PAUSE_S = 2.0  # until a source that failed is tried again
MOST_READINGS = 500_000  # kept while nobody drains
PATIENCE_S = 0.3  # for a last reading at a window's end, and for a thread to end


class Source(Protocol):
    """Something that has counters and gauges."""

    @property
    def name(self) -> str:
        """What ``source`` says in the table: ``triton``, ``container``, ``rapl`` or ``nvml``."""

    def read(self) -> list[Metric]:
        """All of them now; any exception means that they are not known now."""


class MetricLog:
    """Reads sources from :meth:`start` to :meth:`stop`, a thread each.

    Args:
        interval_s: seconds between two readings of a source; one that costs more than a twentieth of a core
            then, or takes longer to answer, is read less often.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._readings: Kept[MetricReading] = Kept(MOST_READINGS, lambda row: row[1:4])
        self._readers: list[_Reader] = []

    def __enter__(self) -> Self:
        """Return itself, not yet started."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads."""
        self.stop()

    def start(self, sources: Iterable[Source]) -> None:
        """Begin to read ``sources``, and no others from now on."""
        self.stop()
        self._readers = [_Reader(source, self._interval_s, self._readings) for source in sources]

    def refresh(self) -> None:
        """Read everything that could be read the last time once more: a window has just ended."""
        asked = [reader for reader in self._readers if reader.ask()]
        deadline = time.monotonic() + PATIENCE_S
        for reader in asked:
            reader.answered.wait(max(deadline - time.monotonic(), 0))

    def drain(self) -> list[MetricReading]:
        """The readings since the last call: rows of (time_ns, source, name, labels, value)."""
        return self._readings.drain()

    def stop(self) -> None:
        """End the threads; what was read can still be drained."""
        for reader in self._readers:
            reader.stop()
        for reader in self._readers:
            reader.join(PATIENCE_S)  # one that hangs ends by its own deadline, and writes no more
        self._readers = []


class _Reader(threading.Thread):
    """The thread of one source."""

    def __init__(self, source: Source, interval_s: float, readings: Kept[MetricReading]) -> None:
        super().__init__(name=f"metrics of {source.name}", daemon=True)
        self.answered = threading.Event()
        self._source = source
        self._interval_s = interval_s
        self._readings = readings
        self._wake = threading.Event()
        self._stopping = False
        self._known = True
        self.start()

    def ask(self) -> bool:
        """Have it read now; ``False`` where that failed the last time."""
        self.answered.clear()
        self._wake.set()
        return self._known and self.is_alive()

    def stop(self) -> None:
        """Have it end."""
        self._stopping = True
        self._wake.set()

    def run(self) -> None:
        """Read until told to stop."""
        while not self._stopping:
            # Asked within a reading, it reads once more: that one began before the question.
            if asked := self._wake.is_set():
                self._wake.clear()
            rest_s = self._read()
            if asked:
                self.answered.set()
            pause_s = self._interval_s * self._readings.pace
            if not self._known:
                pause_s = max(PAUSE_S, pause_s)
            self._wake.wait(max(pause_s, rest_s))

    def _read(self) -> float:
        """Read once; return how long to leave it alone for what it took, in seconds."""
        before_ns, cpu_s = time.monotonic_ns(), time.thread_time()
        try:
            metrics = self._source.read()
        except Exception:  # noqa: BLE001 - telemetry never breaks a run
            metrics, self._known = [], False
        else:
            self._known = True
        after_ns = time.monotonic_ns()
        if not self._stopping:
            moment_ns = (before_ns + after_ns) // 2
            self._readings.extend((moment_ns, self._source.name, *metric) for metric in metrics)
        return max((time.thread_time() - cpu_s) / LARGEST_SHARE, (after_ns - before_ns) / 1e9)
