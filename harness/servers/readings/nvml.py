"""GPUs of this machine by NVIDIA's own library, which comes with the driver; ``pynvml`` finds it.

Triton tells most of it too; NVML's energy counter is finer in time. Neither is required.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.servers.readings.metrics import labelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.servers.readings.metrics import Metric

__all__ = ["Nvml", "find_nvml"]


class Nvml:
    """All GPUs of this machine.

    Args:
        library: the module ``pynvml``, initialised.
    """

    name = "nvml"

    def __init__(self, library: Any) -> None:  # noqa: ANN401 - a module without types
        self._library = library
        self._gpus = [
            (handle, labelled({"gpu_uuid": _text(library.nvmlDeviceGetUUID(handle))}))
            for handle in map(
                library.nvmlDeviceGetHandleByIndex, range(library.nvmlDeviceGetCount())
            )
        ]

    def read(self) -> list[Metric]:
        """Energy since the driver was loaded, power, utilisation and memory in use, a GPU each.

        What a GPU does not tell (older ones have no energy counter) is left out.
        """
        library = self._library
        told: tuple[tuple[str, Callable[[Any], float]], ...] = (
            ("nvml_energy_joules", lambda gpu: library.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3),
            ("nvml_power_watts", lambda gpu: library.nvmlDeviceGetPowerUsage(gpu) / 1e3),
            ("nvml_utilization", lambda gpu: library.nvmlDeviceGetUtilizationRates(gpu).gpu / 1e2),
            ("nvml_memory_used_bytes", lambda gpu: library.nvmlDeviceGetMemoryInfo(gpu).used),
        )  # fmt: skip
        found: list[Metric] = []
        for handle, labels in self._gpus:
            for name, ask in told:
                try:
                    found.append((name, labels, float(ask(handle))))
                except library.NVMLError:
                    continue
        return found


def find_nvml() -> Nvml | None:
    """NVML, where its module, its library and a GPU are there."""
    try:
        library = importlib.import_module("pynvml")
        library.nvmlInit()
        return Nvml(library)
    except Exception:  # noqa: BLE001 - no module, no driver, no GPU: each library says so in its own way
        return None


def _text(value: str | bytes) -> str:
    """Older versions answer in bytes."""
    return value.decode() if isinstance(value, bytes) else value
