"""NVML, by a library of the same functions: the real one needs a GPU (tests/integration/test_gpu.py)."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from harness.servers.readings.nvml import find_nvml

if TYPE_CHECKING:
    import pytest


class NVMLError(Exception):
    pass


def library(**changes: Any) -> Any:
    def unsupported(_gpu: int) -> int:
        raise NVMLError("Not Supported")

    functions = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda gpu: f"GPU-{gpu}".encode(),
        "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: 5000 if gpu == 0 else unsupported(gpu),
        "nvmlDeviceGetPowerUsage": lambda gpu: 70_000 + gpu,
        "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=50 + gpu, memory=1),
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=1 << 30),
    }
    return SimpleNamespace(**(functions | changes))


def test_what_a_gpu_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library())
    nvml = find_nvml()
    assert nvml is not None
    read = {(json.loads(labels)["gpu_uuid"], name): value for name, labels, value in nvml.read()}
    assert read == {
        ("GPU-0", "nvml_energy_joules"): 5.0,
        ("GPU-0", "nvml_power_watts"): 70.0,
        ("GPU-0", "nvml_utilization"): 0.5,
        ("GPU-0", "nvml_memory_used_bytes"): float(1 << 30),
        ("GPU-1", "nvml_power_watts"): 70.001,
        ("GPU-1", "nvml_utilization"): 0.51,
        ("GPU-1", "nvml_memory_used_bytes"): float(1 << 30),
    }


def test_no_module_and_no_driver_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_nvml() is None

    def no_driver() -> None:
        raise NVMLError("Driver Not Loaded")

    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlInit=no_driver))
    assert find_nvml() is None
