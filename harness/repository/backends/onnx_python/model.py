# ruff: noqa: INP001, B905, TC003 - this file runs in the server's own Python, which may be older than ours
"""Serve ``model.onnx``, which stands beside this file, with ONNX Runtime in Triton's Python backend.

Written by ``harness export``. The requests of one execution go through the model together, as one batch;
if that fails, each goes alone, so that a bad request fails by itself. Needs ``numpy`` and ``onnxruntime``
in the environment of the server.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# From 1.29 on it reports to its maker unless it is told not to before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
WAY_OUT = (
    "prepare the embedded server with: harness server install --gpu"
    " (any other one with onnxruntime-gpu), or leave the GPU out."
)
# ``optimization.graph.level`` means here what it means to Triton's own ONNX Runtime backend.
GRAPH_LEVELS = {
    -1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model; ``args`` are those of the Python backend."""
        config = json.loads(args["model_config"])
        self.batched = config["max_batch_size"] > 0
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.strings = {
            tensor["name"] for tensor in config["input"] if tensor["data_type"] == "TYPE_STRING"
        }
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads(config, "intra_op_thread_count")
        options.inter_op_num_threads = _threads(config, "inter_op_thread_count")
        level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
        options.graph_optimization_level = GRAPH_LEVELS[level]
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        device = (
            int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        )
        providers = choose_providers(device, onnxruntime.get_available_providers())
        if device is not None and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA and cuDNN, where they were installed as packages
        self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        if device is not None:
            require_gpu(device, self.session.get_providers(), self.session.get_provider_options())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer ``requests`` in their order, one response each."""
        if self.batched and len(requests) > 1:
            try:
                return self._together(requests)
            except Exception as error:  # noqa: BLE001 - which request is to blame shows next
                pb_utils.Logger.log_verbose(f"a batch failed, its requests go alone: {error}")
        return [self._alone(request) for request in requests]

    def _together(self, requests: list[Any]) -> list[Any]:
        tensors = [self._read(request) for request in requests]
        sizes = [len(next(iter(each.values()))) for each in tensors]
        batch = {name: np.concatenate([each[name] for each in tensors]) for name in self.inputs}
        edges = np.cumsum(sizes)[:-1]
        parts = [np.split(answer, edges) for answer in self._run(batch)]
        return [self._response(part) for part in zip(*parts)]

    def _alone(self, request: Any) -> Any:  # noqa: ANN401 - Triton's own types
        try:
            return self._response(self._run(self._read(request)))
        except Exception as error:  # noqa: BLE001 - the client is told, and the instance lives on
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _read(self, request: Any) -> dict[str, np.ndarray]:  # noqa: ANN401 - Triton's own types
        tensors = {}
        for name in self.inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                raise ValueError(f"the input {name} is missing")
            array = tensor.as_numpy()
            if name in self.strings:
                array = _each(array, lambda item: item.decode("utf-8"))
            tensors[name] = array
        return tensors

    def _run(self, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
        answers = self.session.run(self.outputs, tensors)
        if self.batched:
            rows = len(next(iter(tensors.values())))
            for name, answer in zip(self.outputs, answers):
                if answer.shape[:1] != (rows,):
                    raise ValueError(f"{name} has shape {answer.shape} for a batch of {rows}")
        return answers

    def _response(self, answers: Any) -> Any:  # noqa: ANN401 - Triton's own types
        tensors = [
            pb_utils.Tensor(name, _wire(answer)) for name, answer in zip(self.outputs, answers)
        ]
        return pb_utils.InferenceResponse(tensors)


def _wire(answer: np.ndarray) -> np.ndarray:
    """ONNX Runtime gives strings as ``str``, the Python backend takes them as ``bytes``."""
    if answer.dtype.kind == "O":
        return _each(answer, lambda item: item.encode("utf-8"))
    return np.ascontiguousarray(answer)


def _each(array: np.ndarray, change: Callable[[Any], Any]) -> np.ndarray:
    """Apply ``change`` to each item of an array of objects."""
    changed = np.empty(array.shape, dtype=object)
    changed.ravel()[:] = [change(item) for item in array.ravel()]
    return changed


def _threads(config: dict[str, Any], name: str) -> int:
    """A thread count. Left out, ONNX Runtime would take every core for every instance."""
    return int(config.get("parameters", {}).get(name, {}).get("string_value", "1"))


def choose_providers(device: int | None, available: list[str]) -> list[Any]:
    """What ONNX Runtime is to run the model on: GPU ``device``, or the processor where that is ``None``."""
    if device is None:
        return [CPU]
    if CUDA not in available:
        raise RuntimeError(
            f"an instance on GPU {device} was asked for, but the server's onnxruntime is built without CUDA: {WAY_OUT}"
        )
    # Its tensor cores would round float32 to ten bits, and the answers would not be those of the model.
    return [(CUDA, {"device_id": device, "use_tf32": 0}), CPU]


def require_gpu(device: int, providers: list[str], options: dict[str, dict[str, str]]) -> None:
    """Refuse a session that ONNX Runtime has made on something else than it was asked to, which it does silently."""
    found = options[CUDA].get("device_id") if providers[0] == CUDA else None
    if found != str(device):
        instead = "the processor" if found is None else f"GPU {found}"
        raise RuntimeError(
            f"an instance on GPU {device} was asked for, but onnxruntime fell back to {instead}:"
            " the server's log says what it lacks of the driver, CUDA and cuDNN."
        )
