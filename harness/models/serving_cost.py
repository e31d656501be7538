"""What a network costs to serve: measured in this process with ONNX Runtime on one thread."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.models.framework import seeded_keras
from harness.models.onnx_file import INPUT, OUTPUT, write_onnx
from harness.networks import SHAPE, Penalty, build_network
from harness.point import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Images = npt.NDArray[np.float32]

__all__ = ["ServingCost", "measure_costs"]

THROUGHPUT_BATCH = 32
# Networks take turns, so that a disturbance of the machine does not fall on one of them alone.
ROUNDS = 5
ROUND_S = 0.25


class ServingCost(Frozen):
    """What one inference costs on one thread of one core, without server, network and queue.

    Attributes:
        latency_ms: of a batch of 1, the median over all calls.
        throughput: images per second in batches of 32, from the median over all calls.
        parameters: number of weights.
        file_bytes: size of the ONNX file.
    """

    latency_ms: float
    throughput: float
    parameters: int
    file_bytes: int


def measure_costs(networks: Sequence[str], classes: int, seed: int) -> dict[str, ServingCost]:
    """Measure each network with fresh weights: their values do not change the arithmetic.

    Raises:
        EnvironmentFailedError: TensorFlow is missing.
    """
    x = np.random.default_rng(seed).random((THROUGHPUT_BATCH, *SHAPE), dtype=np.float32)
    sizes, runs = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in networks:
            path = Path(folder) / f"{name}.onnx"
            model = build_network(seeded_keras(seed), name, classes, Penalty())
            model(x)  # Keras exports what has been called once
            write_onnx(model, path)
            sizes[name] = (int(model.count_params()), path.stat().st_size)
            runs[name] = _runner(path)
    latencies: dict[str, list[float]] = {name: [] for name in networks}
    batches: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(ROUNDS):
        for name in networks:
            latencies[name] += _durations_s(runs[name], x[:1])
            batches[name] += _durations_s(runs[name], x)
    return {
        name: ServingCost(
            latency_ms=statistics.median(latencies[name]) * 1e3,
            throughput=THROUGHPUT_BATCH / statistics.median(batches[name]),
            parameters=sizes[name][0],
            file_bytes=sizes[name][1],
        )
        for name in networks
    }


def _runner(path: Path) -> Callable[[Images], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run([OUTPUT], {INPUT: x})


def _durations_s(run: Callable[[Images], object], x: Images) -> list[float]:
    """Run for :data:`ROUND_S` after one run that is not counted; the duration of each, in seconds."""
    run(x)
    durations = []
    end = time.perf_counter() + ROUND_S
    while True:
        started = time.perf_counter()
        run(x)
        finished = time.perf_counter()
        durations.append(finished - started)
        if finished >= end:
            return durations
