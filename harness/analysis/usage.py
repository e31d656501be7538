"""CPU and memory within a window, from telemetry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection

    import pyarrow as pa

__all__ = ["GENERATOR", "HOST", "SERVER", "Usage", "usage"]

# The server is its own process and its Python stubs.
SERVER = frozenset({"server", "stub"})
GENERATOR = frozenset({"generator"})
# All cores of the machine together, idle time left out.
HOST = frozenset({"host"})

# With readings over less than this share of the window, nothing is said about it.
LEAST_COVERED = 0.5


@dataclass(frozen=True)
class Usage:
    """What some processes used together.

    Attributes:
        cores: CPU time per second; 1.0 is one core kept busy.
        rss_bytes: the sum of each process's largest resident memory within the window.
    """

    cores: float
    rss_bytes: int


def usage(telemetry: pa.Table, roles: Collection[str], start_ns: int, end_ns: int) -> Usage | None:
    """What the processes of some roles used within a window; ``None`` without enough readings.

    The cumulative CPU time of each process is interpolated at the window's edges. A process that appears
    within the window had used none before, one that appears after it counts for nothing; of one that ends in
    it the last reading counts. Where reading began within the window, so does what is said: those that are read first were there before.

    Args:
        telemetry: columns ``records.TELEMETRY_COLUMNS``.
        roles: which processes.
        start_ns: where the window begins.
        end_ns: where it ends.
    """
    role = telemetry.column("role").to_numpy(zero_copy_only=False)
    chosen = np.isin(role, list(roles))
    if not chosen.any():
        return None
    time_ns = telemetry.column("time_ns").to_numpy()[chosen]
    pid = telemetry.column("pid").to_numpy()[chosen]
    cpu_s = telemetry.column("cpu_s").to_numpy()[chosen]
    rss_bytes = telemetry.column("rss_bytes").to_numpy()[chosen]
    order = np.lexsort((time_ns, pid))
    again = pid[order][1:] == pid[order][:-1]
    # By then each process that was there has been read once.
    second_ns = time_ns[order][1:][again].min(initial=int(time_ns.max()))
    begin = max(start_ns, int(time_ns[time_ns < second_ns].max(initial=int(time_ns.min()))))
    end = min(end_ns, int(time_ns.max()))
    if end - begin < LEAST_COVERED * (end_ns - start_ns):
        return None
    used_s, memory = 0.0, 0
    for process in np.unique(pid):
        own = pid == process
        order = np.argsort(time_ns[own], kind="stable")
        moments, total_s = time_ns[own][order], cpu_s[own][order]
        if moments[0] > end:
            continue  # nothing is known of it within the window
        before = 0.0 if moments[0] > begin else total_s[0]
        used_s += float(
            np.interp(end, moments, total_s) - np.interp(begin, moments, total_s, left=before)
        )
        present = (moments >= begin) & (moments <= end)
        memory += int(rss_bytes[own][order][present].max(initial=0))
    return Usage(used_s * 1e9 / (end - begin), memory)
