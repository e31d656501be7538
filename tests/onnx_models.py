"""Small ONNX models of every kind that a user may bring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = 20
WIDTH = 3
TABLE = np.random.default_rng(3).normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "STRING": TensorProto.STRING,
}


def tensor(name: str, kind: int, dims: list[str | int]) -> Any:
    return helper.make_tensor_value_info(name, kind, dims)


def save(
    path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    weights: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    external: bool = False,
) -> Path:
    constants = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(8, opset)
    )
    (path.parent / "weights").mkdir(parents=True, exist_ok=True)
    onnx.save(
        model,
        path,
        save_as_external_data=external,
        location="weights/model.bin" if external else None,
        size_threshold=0,
        convert_attribute=False,
    )
    return path


def lookup(path: Path) -> Path:
    """Two INT64 inputs of which the length is dynamic: the mean of looked-up rows, times a factor."""
    return save(
        path,
        [
            helper.make_node("Gather", ["table", "tokens"], ["rows"]),
            helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("Cast", ["factor"], ["scale"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["mean", "scale"], ["scores"]),
        ],
        [
            tensor("tokens", TensorProto.INT64, ["batch", "length"]),
            tensor("factor", TensorProto.INT64, ["batch", 1]),
        ],
        [tensor("scores", TensorProto.FLOAT, ["batch", WIDTH])],
        {"table": TABLE},
    )


def unbatched(path: Path) -> Path:
    """No batch dimension: a matrix of four rows, and the largest of each."""
    return save(
        path,
        [helper.make_node("ReduceMax", ["matrix"], ["largest"], axes=[1], keepdims=0)],
        [tensor("matrix", TensorProto.FLOAT, [4, 5])],
        [tensor("largest", TensorProto.FLOAT, [4])],
    )


def rows(path: Path) -> Path:
    """No batch dimension, and any number of rows: the largest of each column."""
    return save(
        path,
        [helper.make_node("ReduceMax", ["matrix"], ["largest"], axes=[0], keepdims=0)],
        [tensor("matrix", TensorProto.FLOAT, ["rows", 5])],
        [tensor("largest", TensorProto.FLOAT, [5])],
    )


def every_type(path: Path) -> Path:
    """An input and an output of every type that Triton, NumPy and ONNX share, two values each."""
    names = list(TYPES)
    return save(
        path,
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in names],
        [tensor(f"in_{name}", TYPES[name], ["batch", 2]) for name in names],
        [tensor(f"out_{name}", TYPES[name], ["batch", 2]) for name in names],
    )


def labels(path: Path) -> Path:
    """One class an example: an output that has no dimension but the batch."""
    return save(
        path,
        [helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0)],
        [tensor("scores", TensorProto.FLOAT, ["batch", 6])],
        [tensor("label", TensorProto.INT64, ["batch"])],
    )


def linear(path: Path, *, external: bool = False, batch: str | int = "batch") -> Path:
    """A float32 matrix product of eight inputs."""
    return save(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", TensorProto.FLOAT, [batch, 8])],
        [tensor("y", TensorProto.FLOAT, [batch, 4])],
        {"w": np.random.default_rng(5).normal(size=(8, 4)).astype(np.float32)},
        external=external,
    )


def of_pictures(path: Path) -> Path:
    """Scores of three classes for a picture of 4×4."""
    return save(
        path,
        [
            helper.make_node("Reshape", ["picture", "shape"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["scores"]),
        ],
        [tensor("picture", TensorProto.FLOAT, ["batch", 4, 4, 1])],
        [tensor("scores", TensorProto.FLOAT, ["batch", 3])],
        {"w": np.ones((16, 3), np.float32), "shape": np.array([-1, 16])},
    )


def branches(path: Path) -> Path:
    """Two branches, each with a weight of its own, and a constant: all values stand in files beside."""

    def outside(name: str, values: list[float]) -> Any:
        (path.parent / f"{name}.bin").write_bytes(np.array(values, np.float32).tobytes())
        stub = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[len(values)])
        stub.data_location = TensorProto.EXTERNAL
        stub.external_data.add(key="location", value=f"{name}.bin")
        return stub

    def branch(name: str, values: list[float]) -> Any:
        return helper.make_graph(
            [helper.make_node("Add", ["x", name], [f"{name}_sum"])],
            name,
            [],
            [tensor(f"{name}_sum", TensorProto.FLOAT, ["batch", 2])],
            [outside(name, values)],
        )

    path.parent.mkdir(parents=True, exist_ok=True)
    return save(
        path,
        [
            helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
            helper.make_node("Greater", ["total", "zero"], ["positive"]),
            helper.make_node(
                "If",
                ["positive"],
                ["chosen"],
                then_branch=branch("then", [1, 2]),
                else_branch=branch("otherwise", [3, 4]),
            ),
            helper.make_node("Constant", [], ["shift"], value=outside("shift", [5, 6])),
            helper.make_node("Add", ["chosen", "shift"], ["y"]),
        ],
        [tensor("x", TensorProto.FLOAT, ["batch", 2])],
        [tensor("y", TensorProto.FLOAT, ["batch", 2])],
        {"zero": np.zeros((), np.float32)},
    )


def missing_operator(path: Path) -> Path:
    """A model that needs an operator which no runtime has."""
    graph = helper.make_graph(
        [helper.make_node("Teleport", ["x"], ["y"], domain="example.org")],
        "graph",
        [tensor("x", TensorProto.FLOAT, ["batch", 2])],
        [tensor("y", TensorProto.FLOAT, ["batch", 2])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("example.org", 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def narrow(path: Path) -> Path:
    """Class scores that lie so close together that eight bits cannot tell them apart."""
    weights = np.full((8, 4), 1.0, np.float32)
    weights[:, 0] = 100.0  # sets the quantiser's step
    weights += np.random.default_rng(6).normal(scale=1e-3, size=(8, 4)).astype(np.float32)
    return save(
        path,
        [
            helper.make_node("MatMul", ["x", "w"], ["scores"]),
            helper.make_node("Sub", ["scores", "shift"], ["y"]),
        ],
        [tensor("x", TensorProto.FLOAT, ["batch", 8])],
        [tensor("y", TensorProto.FLOAT, ["batch", 4])],
        {"w": weights, "shift": np.array([1e4, 0, 0, 0], np.float32)},
    )


def of_type(path: Path, kind: int, dims: list[str | int]) -> Path:
    """The identity of one type and shape."""
    return save(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", kind, dims)],
        [tensor("y", kind, dims)],
    )


def convolution(path: Path, *, batch: str | int = "batch") -> Path:
    """One convolution over a picture of 6 by 6, for what only convolutions go through."""
    kernel = np.random.default_rng(8).normal(size=(2, 1, 3, 3)).astype(np.float32)
    return save(
        path,
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        [tensor("x", TensorProto.FLOAT, [batch, 1, 6, 6])],
        [tensor("y", TensorProto.FLOAT, [batch, 2, 4, 4])],
        {"w": kernel},
    )
