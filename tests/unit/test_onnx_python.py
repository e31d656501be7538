"""Where the exported model.py lets ONNX Runtime run: nothing is put in another place in silence."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

FILE = Path(__file__).parents[2] / "harness/repository/backends/onnx_python/model.py"
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
ASKED = "an instance on GPU 1 was asked for, but "


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file as a module; what only the server's process has is used by none of these."""
    name = "triton_python_backend_utils"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    spec = importlib.util.spec_from_file_location("onnx_python_model", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def session() -> onnxruntime.InferenceSession:
    """One of the real ONNX Runtime, on the processor."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "neg", [x], [y])
    written = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(written.SerializeToString(), providers=[CPU])


def test_an_instance_on_the_processor_stays_there_where_there_is_a_gpu(model: ModuleType) -> None:
    assert model.choose_providers(None, [CUDA, CPU]) == [CPU]


def test_an_instance_on_a_gpu_runs_on_that_one_in_full_precision(model: ModuleType) -> None:
    (name, options), rest = model.choose_providers(1, ["TensorrtExecutionProvider", CUDA, CPU])
    assert (name, rest) == (CUDA, CPU)
    assert options == {"device_id": 1, "use_tf32": 0}


def test_a_build_without_cuda_is_refused_with_the_way_out(model: ModuleType) -> None:
    with pytest.raises(RuntimeError) as caught:
        model.choose_providers(1, ["AzureExecutionProvider", CPU])
    said = str(caught.value)
    assert said.startswith(f"{ASKED}the server's onnxruntime is built without CUDA: ")
    assert "harness server install --gpu" in said
    assert "\n" not in said


def test_a_session_that_fell_back_to_the_processor_is_refused(
    model: ModuleType, session: onnxruntime.InferenceSession
) -> None:
    np.testing.assert_array_equal(session.run(None, {"x": np.ones(1, np.float32)})[0], [-1])
    with pytest.raises(RuntimeError, match=f"^{ASKED}onnxruntime fell back to the processor: "):
        model.require_gpu(1, session.get_providers(), session.get_provider_options())


def test_a_session_on_another_gpu_is_refused(model: ModuleType) -> None:
    """ONNX Runtime tries once more without its options where the first try fails."""
    options = {CUDA: {"device_id": "0"}, CPU: {}}
    with pytest.raises(RuntimeError, match=f"^{ASKED}onnxruntime fell back to GPU 0: "):
        model.require_gpu(1, [CUDA, CPU], options)
    model.require_gpu(0, [CUDA, CPU], options)
