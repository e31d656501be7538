"""Pending requests, energy and GPUs within a window, from the counters and gauges read beside it.

What was not read is ``None``, never 0. A counter's increase follows Prometheus: one that goes down has
begun again at 0, as after a restart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["UNKNOWN", "WindowMetrics", "increase", "pool_metrics", "window_metrics"]

# With readings over less than this share of the window, nothing is said about a counter's increase.
LEAST_COVERED = 0.5
PENDING = "nv_inference_pending_request_count"
# NVML's own counter is finer in time than Triton's copy of it.
GPU_ENERGY = ("nvml_energy_joules", "nv_energy_consumption")
GPU_UTILIZATION = ("nvml_utilization", "nv_gpu_utilization")
GPU_MEMORY = ("nvml_memory_used_bytes", "nv_gpu_memory_used_bytes")
CPU_ENERGY = ("rapl_energy_joules",)
CONTAINER_CPU = ("container_cpu_seconds",)
CONTAINER_MEMORY = ("container_memory_bytes",)


@dataclass(frozen=True)
class WindowMetrics:
    """What counters and gauges say of one window, or of all windows of a point.

    Attributes:
        window_s: its length.
        inferences: those with a right answer within it.
        pending_mean, pending_max: requests of the model that wait in the server's queue, of the readings
            within the window.
        gpu_joules, cpu_joules: energy that all GPUs, and processors and memory of the whole machine used.
        gpu_utilization: from 0 to 1, the mean over readings and GPUs.
        gpu_memory_bytes: in use, of all GPUs, the largest reading.
        container_cores, container_memory_bytes: of the server's container, by its control group.
    """

    window_s: float = 0.0
    inferences: int = 0
    pending_mean: float | None = None
    pending_max: float | None = None
    gpu_joules: float | None = None
    cpu_joules: float | None = None
    gpu_utilization: float | None = None
    gpu_memory_bytes: float | None = None
    container_cores: float | None = None
    container_memory_bytes: float | None = None

    @property
    def gpu_joules_per_1000(self) -> float | None:
        """GPU energy for a thousand inferences with a right answer."""
        return self._per_1000(self.gpu_joules)

    @property
    def cpu_joules_per_1000(self) -> float | None:
        """The same of processors and memory, the load generator's share included."""
        return self._per_1000(self.cpu_joules)

    def _per_1000(self, joules: float | None) -> float | None:
        return None if joules is None or not self.inferences else joules / self.inferences * 1e3


UNKNOWN = WindowMetrics()


@dataclass(frozen=True)
class _Series:
    """One counter or gauge of one thing: its readings in the order of time, shape (readings,)."""

    time_ns: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


def window_metrics(
    metrics: pa.Table | None, model: str, start_ns: int, end_ns: int, inferences: int
) -> WindowMetrics:
    """What was read within a window.

    Args:
        metrics: columns ``records.METRIC_COLUMNS``; ``None`` of an old run.
        model: whose pending requests are meant.
        start_ns: where the window begins.
        end_ns: where it ends.
        inferences: right answers within it.
    """
    window_s = max(end_ns - start_ns, 0) / 1e9
    if metrics is None or not metrics.num_rows or end_ns <= start_ns:
        return WindowMetrics(window_s, inferences)
    table = _Table(metrics)

    def used(names: Sequence[str]) -> float | None:
        return _sum(increase(each.time_ns, each.value, start_ns, end_ns) for each in table(names))

    def seen(names: Sequence[str], model: str | None = None) -> list[npt.NDArray[np.float64]]:
        inside = [
            each.value[(each.time_ns >= start_ns) & (each.time_ns <= end_ns)]
            for each in table(names, model)
        ]
        return [values for values in inside if len(values)]

    pending = _together(seen((PENDING,), model))
    container_s = used(CONTAINER_CPU)
    return WindowMetrics(
        window_s,
        inferences,
        pending_mean=None if pending is None else float(pending.mean()),
        pending_max=None if pending is None else float(pending.max()),
        gpu_joules=used(GPU_ENERGY),
        cpu_joules=used(CPU_ENERGY),
        gpu_utilization=_mean([float(values.mean()) for values in seen(GPU_UTILIZATION)]),
        gpu_memory_bytes=_sum(float(values.max()) for values in seen(GPU_MEMORY)),
        container_cores=None if container_s is None else container_s / window_s,
        container_memory_bytes=_sum(float(values.max()) for values in seen(CONTAINER_MEMORY)),
    )


def increase(
    time_ns: npt.NDArray[np.int64], value: npt.NDArray[np.float64], start_ns: int, end_ns: int
) -> float | None:
    """How much a counter has gone up within a window, its value interpolated at the edges.

    Readings over only a part of the window stand for all of it; over less than half, nothing is said.

    Args:
        time_ns: when it was read, in the order of time.
        value: what was read, of the same shape.
        start_ns: where the window begins.
        end_ns: where it ends.
    """
    if len(time_ns) < 2:
        return None
    begin, end = max(start_ns, int(time_ns[0])), min(end_ns, int(time_ns[-1]))
    if end <= begin or end - begin < LEAST_COVERED * (end_ns - start_ns):
        return None
    steps = np.diff(value)
    total = np.concatenate([[0.0], np.cumsum(np.where(steps < 0, value[1:], steps))])
    gone = float(np.interp(end, time_ns, total) - np.interp(begin, time_ns, total))
    return gone / (end - begin) * (end_ns - start_ns)


def pool_metrics(windows: Sequence[WindowMetrics]) -> WindowMetrics:
    """All windows of a point together: gauges from those in which they were read, sums only from all."""

    def known(name: str) -> list[WindowMetrics]:
        return [window for window in windows if getattr(window, name) is not None]

    def mean(name: str) -> float | None:
        seen = known(name)
        weight_s = sum(window.window_s for window in seen)
        whole = sum(getattr(window, name) * window.window_s for window in seen)
        return whole / weight_s if weight_s else None

    def most(name: str) -> float | None:
        return max((getattr(window, name) for window in known(name)), default=None)

    def total(name: str) -> float | None:
        return _sum(getattr(window, name) for window in windows)

    return WindowMetrics(
        window_s=sum(window.window_s for window in windows),
        inferences=sum(window.inferences for window in windows),
        pending_mean=mean("pending_mean"),
        pending_max=most("pending_max"),
        gpu_joules=total("gpu_joules"),
        cpu_joules=total("cpu_joules"),
        gpu_utilization=mean("gpu_utilization"),
        gpu_memory_bytes=most("gpu_memory_bytes"),
        container_cores=mean("container_cores"),
        container_memory_bytes=most("container_memory_bytes"),
    )


class _Table:
    """Looks series up by name: the first of several names that was read at all."""

    def __init__(self, metrics: pa.Table) -> None:
        self._name = metrics.column("name").to_numpy(zero_copy_only=False)
        self._labels = metrics.column("labels").to_numpy(zero_copy_only=False)
        self._time_ns = metrics.column("time_ns").to_numpy()
        self._value = metrics.column("value").to_numpy()

    def __call__(self, names: Sequence[str], model: str | None = None) -> list[_Series]:
        for name in names:
            if found := list(self._series(name, model)):
                return found
        return []

    def _series(self, name: str, model: str | None) -> Iterator[_Series]:
        named = self._name == name
        for labels in np.unique(self._labels[named]):
            if model is not None and _model(labels) != model:
                continue
            own = np.flatnonzero(named & (self._labels == labels))
            own = own[np.argsort(self._time_ns[own], kind="stable")]
            yield _Series(self._time_ns[own], self._value[own])


def _model(labels: str) -> str | None:
    try:
        read = json.loads(labels)
    except ValueError:
        return None
    return read.get("model") if isinstance(read, dict) else None


def _together(series: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64] | None:
    """The sum of gauges that are read at once, such as a model's versions."""
    if not series:
        return None
    shortest = min(map(len, series))
    return np.asarray(np.sum([values[:shortest] for values in series], axis=0))


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    counted = [value for value in known if value is not None]
    return sum(counted) if counted and len(counted) == len(known) else None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
