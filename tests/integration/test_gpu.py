"""The real thing on a GPU. Skipped where there is none; docs/gpu.md says what has been run, and what not.

The container's part needs an image with a GPU build of ONNX Runtime, such as NVIDIA's own: name it in
``HARNESS_GPU_IMAGE``.
"""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.archive import open_run

Harness = Callable[..., subprocess.CompletedProcess[str]]

IMAGE = os.environ.get("HARNESS_GPU_IMAGE")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="needs an NVIDIA GPU"),
]
SWEEP = """\
model: cnn
server: {server}
sweep:
  kind: {kind}
  gpus: [[0]]
  batch_size: 8
  concurrency: [1, 8]
measure: {{window: 2s, passes: 2}}
"""


def run(harness: Harness, models: Path, folder: Path, server: str, kind: str, *codes: int) -> str:
    scenario = folder / "gpu.yaml"
    scenario.write_text(SWEEP.format(server=server, kind=kind))
    done = harness("run", scenario, "--models", models, "--output", folder / "reports", code=codes)
    return done.stdout + done.stderr


def test_embedded_instances_on_a_gpu_are_refused_and_do_not_run_on_the_processor_instead(
    harness: Harness, triton_models: Path, tmp_path: Path
) -> None:
    """The embedded server's onnxruntime is the CPU build."""
    said = run(harness, triton_models, tmp_path, "{kind: embedded}", "gpu", 3)
    assert "no CUDAExecutionProvider" in said


@pytest.mark.skipif(
    IMAGE is None, reason="needs HARNESS_GPU_IMAGE, an image with onnxruntime for GPUs"
)
def test_a_container_serves_on_processor_and_gpu_and_counts_joules(
    harness: Harness, triton_models: Path, tmp_path: Path
) -> None:
    server = f"{{kind: container, image: '{IMAGE}', gpus: all, network: host, ready_timeout: 5m}}"
    run(harness, triton_models, tmp_path, server, "[cpu, gpu]", 0, 4)
    (folder,) = (tmp_path / "reports").iterdir()
    archive = open_run(folder)
    trials = [trial for trial in archive.trials() if trial.role == "point"]
    for trial in trials:
        assert trial.failure is None
        assert trial.differences == ()
        assert trial.effective is not None
        (group,) = trial.effective["instance_group"]
        on_gpu = trial.point.configuration.kind == "gpu"
        assert group["kind"] == ("KIND_GPU" if on_gpu else "KIND_CPU")
        assert group.get("gpus", []) == ([0] if on_gpu else [])
    table = archive.metrics(trials[0].index)
    assert table is not None
    names = set(table.column("name").to_pylist())
    assert {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_energy_consumption"} <= names
    with (folder / "summary.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert {point["kind"] for point in points} == {"cpu", "gpu"}
    for point in points:
        # An idle GPU draws power as well.
        assert float(point["gpu_joules_per_1000"]) > 0
    busiest = max(float(point["gpu_utilization"]) for point in points if point["kind"] == "gpu")
    idle = max(float(point["gpu_utilization"]) for point in points if point["kind"] == "cpu")
    assert busiest > idle
