"""CPU time and memory of the processes that matter, and of the host, over time.

Readings are cumulative, so what a process used within a window is the difference of two values
interpolated at its edges. What cannot be read is left out: never 0, never an error.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import psutil

from harness.servers.readings.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
__all__ = ["Reading", "Telemetry"]

Reading = tuple[int, str, int, float, int]  # harness.records.TELEMETRY_COLUMNS

LISTING_S = 0.25  # between two looks for new processes: a look reads all of /proc
MOST_READINGS = 1_000_000  # kept while nobody drains
NOT_BUSY = ("idle", "iowait", "steal", "guest", "guest_nice")  # a guest's time is in user's already


class Telemetry:
    """A thread that reads every ``interval_s``.

    Args:
        interval_s: seconds between two readings.
    """

    def __init__(self, interval_s: float = 0.1) -> None:
        self._interval_s = interval_s
        self._readings: Kept[Reading] = Kept(MOST_READINGS, lambda row: row[1:3])
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._read_again = threading.Event()
        self._listed: dict[int, tuple[str, psutil.Process]] = {}

    def __enter__(self) -> Self:
        """Return itself, not yet started."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread."""
        self.stop()

    def start(self, processes: Callable[[], Sequence[tuple[str, int]]]) -> None:
        """Begin to read the host and what ``processes`` lists as (role, pid); it is asked four times a second."""
        self.stop()
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._run, args=(processes,), name="telemetry", daemon=True
        )
        self._thread.start()

    def drain(self) -> list[Reading]:
        """The readings since the last call: rows of (time_ns, role, pid, cpu_s, rss_bytes)."""
        return self._readings.drain()

    def refresh(self, timeout_s: float = 1.0) -> None:
        """Look for processes and read them now: they may have changed, or a window has just ended."""
        if self._thread is not None:
            self._read_again.clear()
            self._wake.set()
            self._read_again.wait(timeout_s)

    def stop(self) -> None:
        """Take a last reading and end the thread; what was read can still be drained."""
        if self._thread is not None:
            self._stopping.set()
            self._wake.set()
            self._thread.join()
            self._thread = None

    def _run(self, processes: Callable[[], Sequence[tuple[str, int]]]) -> None:
        listing_at = next_at = time.monotonic()
        while True:
            if asked := self._wake.is_set():  # what comes after this look is heeded by the next
                self._wake.clear()
            if asked or time.monotonic() >= listing_at or self._read():
                self._list(processes)
                listing_at = time.monotonic() + LISTING_S
                self._read()
            if asked:
                self._read_again.set()
            if self._stopping.is_set():
                return
            # A late reading does not make the following ones hurry.
            now = time.monotonic()
            interval_s = self._interval_s * self._readings.pace
            next_at = now + interval_s if asked else max(next_at + interval_s, now)
            self._wake.wait(next_at - now)

    def _list(self, processes: Callable[[], Sequence[tuple[str, int]]]) -> None:
        try:
            listed = processes()
        except Exception:  # noqa: BLE001 - telemetry never breaks a run
            return
        known = self._listed
        self._listed = {}
        for role, pid in listed:
            try:
                process = known[pid][1] if pid in known else psutil.Process(pid)
                if process.is_running():
                    self._listed[pid] = (role, process)
            except psutil.Error:
                continue

    def _read(self) -> bool:
        """Read once; return whether a process has gone since it was listed."""
        gone, read = [], list[Reading]()
        for pid, (role, process) in self._listed.items():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory = process.memory_info().rss
            except (psutil.Error, OSError):
                gone.append(pid)
                continue
            read.append((time.monotonic_ns(), role, pid, times.user + times.system, memory))
        for pid in gone:
            del self._listed[pid]
        try:
            host = psutil.cpu_times()
            busy = sum(value for name, value in host._asdict().items() if name not in NOT_BUSY)
            memory = psutil.virtual_memory().used
            read.append((time.monotonic_ns(), "host", 0, busy, memory))
        except (psutil.Error, OSError):
            pass
        self._readings.extend(read)
        return bool(gone)
