"""Energy counters of this machine's processors: RAPL, as Linux shows it below ``/sys/class/powercap``.

Source: ``Documentation/power/powercap/powercap.rst`` of the Linux kernel. Since 2020 only root may read
them by default (CVE-2020-8694); where they cannot be read there are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.servers.readings.metrics import labelled

if TYPE_CHECKING:
    from harness.servers.readings.metrics import Metric

__all__ = ["Rapl", "find_rapl"]

POWERCAP = Path("/sys/class/powercap")
# A package holds its cores and its graphics; memory stands beside it. ``psys`` holds all of them again.
COUNTED = ("package", "dram")


@dataclass
class _Zone:
    """One counter, which starts again from 0 beyond ``range_uj``."""

    counter: Path
    labels: str
    range_uj: int
    last_uj: int
    total_uj: int = 0

    def joules(self) -> float:
        """What was used since the first reading; right if read once in a range (minutes, at the least)."""
        now_uj = int(self.counter.read_text())
        step = now_uj - self.last_uj
        self.total_uj += step if step >= 0 else step + self.range_uj
        self.last_uj = now_uj
        return self.total_uj / 1e6


class Rapl:
    """The energy that processors and memory of the whole machine have used, in joules."""

    name = "rapl"

    def __init__(self, zones: list[_Zone]) -> None:
        self._zones = zones

    def read(self) -> list[Metric]:
        """``rapl_energy_joules`` of each package and of its memory, since the first reading.

        Raises:
            OSError: a counter cannot be read any more.
            ValueError: it holds no number.
        """
        return [("rapl_energy_joules", zone.labels, zone.joules()) for zone in self._zones]


def find_rapl(root: Path = POWERCAP) -> Rapl | None:
    """The counters that can be read; ``None`` where there are none."""
    zones = []
    for folder in sorted(root.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text().strip()
            if not name.startswith(COUNTED):
                continue
            counter = folder / "energy_uj"
            range_uj = int((folder / "max_energy_range_uj").read_text())
            labels = labelled({"zone": folder.name.removeprefix("intel-rapl:"), "name": name})
            zones.append(_Zone(counter, labels, range_uj, int(counter.read_text())))
        except (OSError, ValueError):
            continue
    return Rapl(zones) if zones else None
