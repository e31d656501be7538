"""Instances on a GPU: served where there is one, refused where not; docs/gpu.md says what has been run.

The container's part needs an image with a GPU build of ONNX Runtime, such as NVIDIA's own: name it in
``HARNESS_GPU_IMAGE``. The embedded server's part needs ``harness server install --gpu``.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from harness.archive import open_run
from harness.errors import EnvironmentFailedError
from harness.scenario import ServerSpec
from harness.servers import serving
from harness.servers.control import Control
from harness.servers.embedded.environment import find_environment
from harness.servers.staging import staged

if TYPE_CHECKING:
    from pathlib import Path

Harness = Callable[..., subprocess.CompletedProcess[str]]

IMAGE = os.environ.get("HARNESS_GPU_IMAGE")
# What Triton tells a model where there is a GPU: on others it does not let it come so far.
ON_A_GPU = """
load = TritonPythonModel.initialize
gpu = {"model_instance_kind": "GPU", "model_instance_device_id": "0"}
TritonPythonModel.initialize = lambda self, args: load(self, {**args, **gpu})
"""
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


def run(
    harness: Harness, models: Path, folder: Path, server: str
) -> tuple[Path, list[dict[str, str]]]:
    """Sweep over processor and GPU 0; the run's folder and its points, after what must hold of any server."""
    scenario = folder / "gpu.yaml"
    scenario.write_text(SWEEP.format(server=server, kind="[cpu, gpu]"))
    reports = folder / "reports"
    harness("run", scenario, "--models", models, "--output", reports, code=(0, 4))
    (found,) = reports.iterdir()
    trials = [trial for trial in open_run(found).trials() if trial.role == "point"]
    assert {trial.point.configuration.kind for trial in trials} == {"cpu", "gpu"}
    for trial in trials:
        assert trial.failure is None
        assert trial.differences == ()
        assert trial.effective is not None
        (group,) = trial.effective["instance_group"]
        on_gpu = trial.point.configuration.kind == "gpu"
        assert group["kind"] == ("KIND_GPU" if on_gpu else "KIND_CPU")
        assert group.get("gpus", []) == ([0] if on_gpu else [])
    with (found / "summary.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert {point["kind"] for point in points} == {"cpu", "gpu"}
    for point in points:
        assert int(point["requests"]) > int(point["errors"]) == int(point["wrong_answers"]) == 0
    return found, points


@pytest.mark.gpu
def test_the_embedded_server_serves_on_processor_and_gpu_and_answers_rightly(
    harness: Harness, triton_models: Path, tmp_path: Path
) -> None:
    if not find_environment().gpu:
        pytest.skip("needs harness server install --gpu")
    found, _ = run(harness, triton_models, tmp_path, "{kind: embedded}")
    assert "(GPU device 0)" in (found / "logs" / "tritonserver.log").read_text()


@pytest.mark.no_gpu
def test_an_instance_that_onnxruntime_cannot_put_on_a_gpu_does_not_run_on_the_processor_instead(
    triton_models: Path, tmp_path: Path
) -> None:
    shutil.copytree(triton_models / "cnn", tmp_path / "cnn")
    with (tmp_path / "cnn" / "1" / "model.py").open("a") as file:
        file.write(ON_A_GPU)
    with (
        staged({"cnn": tmp_path / "cnn"}, "gpu") as repository,
        serving(ServerSpec(), repository, logs=tmp_path, run_id="gpu") as server,
        Control(server.endpoints, log=server.log) as control,
        pytest.raises(EnvironmentFailedError, match="an instance on GPU 0 was asked for") as caught,
    ):
        control.load("cnn", deadline_s=60)
    said = str(caught.value)
    assert "\n" not in said
    if find_environment().gpu:
        assert "onnxruntime fell back to the processor: the server's log says" in said
    else:
        assert (
            "built without CUDA: prepare the embedded server with: harness server install" in said
        )


@pytest.mark.gpu
@pytest.mark.skipif(
    IMAGE is None, reason="needs HARNESS_GPU_IMAGE, an image with onnxruntime for GPUs"
)
def test_a_container_serves_on_processor_and_gpu_and_counts_joules(
    harness: Harness, triton_models: Path, tmp_path: Path
) -> None:
    server = f"{{kind: container, image: '{IMAGE}', gpus: all, network: host, ready_timeout: 5m}}"
    found, points = run(harness, triton_models, tmp_path, server)
    archive = open_run(found)
    table = archive.metrics(
        next(trial.index for trial in archive.trials() if trial.role == "point")
    )
    assert table is not None
    names = set(table.column("name").to_pylist())
    assert {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_energy_consumption"} <= names
    for point in points:
        # An idle GPU draws power as well.
        assert float(point["gpu_joules_per_1000"]) > 0
    busiest = max(float(point["gpu_utilization"]) for point in points if point["kind"] == "gpu")
    idle = max(float(point["gpu_utilization"]) for point in points if point["kind"] == "cpu")
    assert busiest > idle
