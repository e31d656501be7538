"""An ONNX model: what stands in the file, and whether the runtime can run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx.external_data_helper import uses_external_data

from harness.errors import UsageError
from harness.repository.tensors import TensorSpec, data_type_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from harness.repository.options import GraphOptimization

__all__ = ["Graph", "OnnxSession", "read_graph"]


@dataclass(frozen=True)
class Graph:
    """An ONNX file.

    Attributes:
        path: where it is.
        origin: what the user named: the file itself, or what it was made from.
        inputs, outputs: its tensors; weights are not among the inputs.
        opset: version of the default operator set.
        ir_version: version of the file format.
        external_files: files with weights that stand beside it, relative to its folder.
    """

    path: Path
    origin: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    ir_version: int
    external_files: tuple[str, ...] = ()

    @property
    def unbatchable(self) -> TensorSpec | None:
        """The first tensor whose first dimension is not dynamic, so that no batch can go through it."""
        tensors = (*self.inputs, *self.outputs)
        return next((spec for spec in tensors if not spec.dims or spec.dims[0] != -1), None)


def read_graph(path: Path, origin: str | None = None) -> Graph:
    """Read an ONNX file, weights left alone.

    Args:
        path: the file.
        origin: what the user named, where the file was made from it; errors name that.

    Raises:
        UsageError: it is missing, damaged, or has a tensor that Triton has no type for.
    """
    remedy = "Give an ONNX file that onnx.checker accepts"
    where = origin or str(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(str(path))
    except FileNotFoundError as error:
        raise UsageError(
            "no such ONNX file",
            where=where,
            remedy="Check the path; harness train writes model.onnx into the network's folder",
        ) from error
    except Exception as error:  # the protobuf parser and the checker raise types of their own
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"not a usable ONNX model ({reason})", where=where, remedy=remedy
        ) from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_spec(value, where) for value in model.graph.input if value.name not in weights)
    outputs = tuple(_spec(value, where) for value in model.graph.output)
    if not inputs or not outputs:
        raise UsageError(
            "the ONNX model has no input or no output to serve", where=where, remedy=remedy
        )
    opset = next(
        (known.version for known in model.opset_import if known.domain in ("", "ai.onnx")), 0
    )
    return Graph(path, where, inputs, outputs, opset, model.ir_version, _external_files(model))


def _spec(value: Any, where: str) -> TensorSpec:  # noqa: ANN401 - onnx ships no types
    tensor = value.type.tensor_type
    data_type = data_type_of(tensor.elem_type)
    if not value.type.HasField("tensor_type") or data_type is None:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type else "no tensor"
        raise UsageError(
            f"the tensor {value.name} is of a type that cannot be served ({kind})",
            where=where,
            remedy="Cast it to a type that Triton and NumPy both have, such as FP32, inside the model",
        )
    if not tensor.HasField("shape"):
        raise UsageError(
            f"the tensor {value.name} states no shape",
            where=where,
            remedy="Run onnx.shape_inference on the model and save it again",
        )
    dims = tuple(
        size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else -1
        for size in tensor.shape.dim
    )
    return TensorSpec(value.name, data_type, dims)


def _external_files(model: Any) -> tuple[str, ...]:  # noqa: ANN401 - onnx ships no types
    locations = set()
    tensors = list(_tensors(model.graph))
    for function in model.functions:
        tensors += _attribute_tensors(function.node)
    for tensor in tensors:
        if uses_external_data(tensor):
            locations |= {entry.value for entry in tensor.external_data if entry.key == "location"}
    return tuple(sorted(locations))


def _tensors(graph: Any) -> Iterator[Any]:  # noqa: ANN401 - onnx ships no types
    """Every tensor with values in a graph: its weights, and what the branches and bodies in it hold."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _attribute_tensors(graph.node)


def _attribute_tensors(nodes: Any) -> Iterator[Any]:  # noqa: ANN401 - onnx ships no types
    for attribute in (each for node in nodes for each in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)


GRAPH_LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class OnnxSession:
    """An ONNX model loaded in this process, on the CPU, operators one after the other.

    Args:
        path: the ONNX file.
        origin: what the user named, where the file was made from it; errors name that.
        threads: within an operator.
        optimization: how far the runtime may rewrite the graph.

    Raises:
        UsageError: the runtime cannot run it, with the operator it lacks.
    """

    def __init__(
        self,
        path: Path,
        origin: str | None = None,
        *,
        threads: int = 1,
        optimization: GraphOptimization = "all",
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = GRAPH_LEVELS[optimization]
        options.log_severity_level = 4  # what goes wrong arrives as an exception
        self.origin = origin or str(path)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises types of its own, straight from Exception
            reason = " ".join(str(error).split())[:300]
            raise UsageError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load the model ({reason})",
                where=self.origin,
                remedy="Convert the model with operators and an opset that this runtime has",
            ) from error
        self._strings = {
            value.name for value in self._session.get_inputs() if value.type == "tensor(string)"
        }
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Compute all outputs. Strings go in and come out as fixed-width bytes.

        Args:
            inputs: by tensor name, with the batch dimension where the model has one.

        Raises:
            UsageError: the model does not take them.
        """
        feed = {
            name: np.char.decode(array, "utf-8").astype(object) if name in self._strings else array
            for name, array in inputs.items()
        }
        try:
            answers = self._session.run(None, feed)
        except Exception as error:  # onnxruntime raises types of its own, straight from Exception
            reason = " ".join(str(error).split())[:300]
            raise UsageError(
                f"the model does not take the example inputs ({reason})",
                where=self.origin,
                remedy="Give others with --shape and --range, or with --data",
            ) from error
        return {
            name: np.char.encode(answer.astype(np.str_), "utf-8")
            if answer.dtype.kind == "O"
            else answer
            for name, answer in zip(self.outputs, answers, strict=True)
        }
