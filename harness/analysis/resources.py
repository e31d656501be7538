"""CPU and memory of server, stubs, generator and host over the whole run, and how memory has grown.

Times of a run are cut into equal parts. A process's CPU time between two readings belongs to the part that
lies in the middle of them, its memory is the mean over the part.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from harness.archive import RunDirectory
    from harness.records import TrialRecord

    Floats = npt.NDArray[np.float64]

__all__ = ["ROLES", "Growth", "Resources", "resources_of"]

ROLES = ("server", "stub", "generator", "host")
MOST_PARTS = 120
LEAST_PART_S = 1.0
LONGEST_STEP_S = 5.0  # between two readings; over a longer one nothing was read
LEAST_LIFE = (
    0.5  # of the run, that a process must have lived for its memory's growth to say something
)


@dataclass(frozen=True)
class Growth:
    """The resident memory of a role's longest-lived process, when it was first and last read.

    Attributes:
        first_bytes, last_bytes: medians of the first and of the last tenth of its readings.
        over_s: how long it was watched.
    """

    first_bytes: float
    last_bytes: float
    over_s: float


@dataclass(frozen=True)
class Resources:
    """What roles used over a run. A role that was not seen has no entry.

    Attributes:
        minutes: the middles of the parts, since the first reading, shape (parts,).
        cores: by role, CPU time per second, shape (parts,); NaN where nothing was read.
        memory_bytes: by role, of its processes together (of host: in use), shape (parts,).
        growth: by role, where one process of it has lived for most of the run.
    """

    minutes: Floats
    cores: Mapping[str, Floats]
    memory_bytes: Mapping[str, Floats]
    growth: Mapping[str, Growth]


def resources_of(run: RunDirectory, records: Sequence[TrialRecord]) -> Resources | None:
    """Put the telemetry of all trials together; ``None`` without any. One trial is in memory at a time.

    Raises:
        UsageError: a trial's file is unreadable.
    """
    first = _first_span(run, records)
    last = _first_span(run, records[::-1])
    if first is None or last is None:
        return None
    start_ns, end_ns = first[0], last[1]
    if end_ns <= start_ns:
        return None
    parts = _Parts(start_ns, end_ns)
    for record in records:
        parts.add(run.telemetry(record.index))
    return parts.resources()


def _first_span(run: RunDirectory, records: Sequence[TrialRecord]) -> tuple[int, int] | None:
    """The span of the first trial that has readings: a trial that broke early may have none."""
    spans = (_span(run.telemetry(record.index)) for record in records)
    return next((span for span in spans if span is not None), None)


def _span(telemetry: pa.Table) -> tuple[int, int] | None:
    time_ns = telemetry.column("time_ns").to_numpy()
    return (int(time_ns.min()), int(time_ns.max())) if len(time_ns) else None


class _Parts:
    """Sums over each part of the run, filled trial by trial."""

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self._start_ns = start_ns
        self._length_s = (end_ns - start_ns) / 1e9
        self._parts = int(np.clip(self._length_s / LEAST_PART_S, 1, MOST_PARTS))
        self._cpu_s: dict[str, Floats] = defaultdict(lambda: np.zeros(self._parts))
        self._byte_s: dict[str, Floats] = defaultdict(lambda: np.zeros(self._parts))
        self._covered_s = np.zeros(self._parts)  # the host is read whenever anything is
        self._last: dict[int, tuple[int, float]] = {}
        self._memory: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)

    def add(self, telemetry: pa.Table) -> None:
        """Add the readings of one trial, which follow those of the trial before."""
        for role, pid, time_ns, cpu_s, memory in _processes(telemetry):
            self._memory[role, pid] += _thinned(time_ns, memory)
            before = self._last.get(pid)
            self._last[pid] = (int(time_ns[-1]), float(cpu_s[-1]))
            follows = before is not None and before[0] < time_ns[0]
            first = before if before is not None and follows else (time_ns[0], cpu_s[0])
            moments = np.concatenate([[first[0]], time_ns])
            step_s = np.diff(moments) / 1e9
            used_s = np.diff(np.concatenate([[first[1]], cpu_s]))
            good = (step_s > 0) & (step_s <= LONGEST_STEP_S) & (used_s >= 0)
            middle_ns = (moments[1:] + moments[:-1]) / 2
            place = (middle_ns - self._start_ns) / 1e9 / self._length_s * self._parts
            part = place.astype(int).clip(0, self._parts - 1)
            np.add.at(self._cpu_s[role], part[good], used_s[good])
            np.add.at(self._byte_s[role], part[good], (memory * step_s)[good])
            if role == "host":
                np.add.at(self._covered_s, part[good], step_s[good])

    def resources(self) -> Resources:
        """The means over each part."""
        covered_s = np.where(self._covered_s > 0, self._covered_s, np.nan)
        middles = (np.arange(self._parts) + 0.5) * (self._length_s / 60 / self._parts)
        seen = [role for role in ROLES if role in self._cpu_s]
        return Resources(
            minutes=np.asarray(middles, dtype=np.float64),
            cores={role: self._cpu_s[role] / covered_s for role in seen},
            memory_bytes={role: self._byte_s[role] / covered_s for role in seen},
            growth={role: growth for role in seen if (growth := self._growth(role))},
        )

    def _growth(self, role: str) -> Growth | None:
        lives = [readings for (own, _), readings in self._memory.items() if own == role]
        longest = max(lives, key=lambda readings: readings[-1][0] - readings[0][0])
        over_s = (longest[-1][0] - longest[0][0]) / 1e9
        if over_s < LEAST_LIFE * self._length_s:
            return None
        tenth = max(len(longest) // 10, 1)
        values = np.array([memory for _, memory in longest])
        return Growth(float(np.median(values[:tenth])), float(np.median(values[-tenth:])), over_s)


def _processes(telemetry: pa.Table) -> Iterator[tuple[str, int, Floats, Floats, Floats]]:
    """Each process's readings in the order of time: role, pid, moments in ns, CPU time, memory."""
    role = telemetry.column("role").to_numpy(zero_copy_only=False)
    pid = telemetry.column("pid").to_numpy()
    time_ns = telemetry.column("time_ns").to_numpy().astype(np.float64)
    cpu_s = telemetry.column("cpu_s").to_numpy()
    memory = telemetry.column("rss_bytes").to_numpy().astype(np.float64)
    for process in np.unique(pid):
        own = np.flatnonzero(pid == process)
        own = own[np.argsort(time_ns[own], kind="stable")]
        if role[own[0]] in ROLES:
            yield str(role[own[0]]), int(process), time_ns[own], cpu_s[own], memory[own]


def _thinned(time_ns: Floats, memory: Floats, most: int = 20) -> list[tuple[int, float]]:
    """A few readings of one trial, evenly spread: a long run must not fill the memory."""
    places = np.unique(np.linspace(0, len(time_ns) - 1, most).astype(int))
    return [(int(time_ns[place]), float(memory[place])) for place in places]
