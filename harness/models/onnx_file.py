"""A trained network as an ONNX file and as a SavedModel, with tensor names that people expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from harness.models.framework import quiet
from harness.networks import SHAPE

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from harness.models.framework import KerasObject

__all__ = ["INPUT", "OPSET", "OUTPUT", "run_onnx", "write_onnx", "write_saved_model"]

# The onnx package ships no types that a checker could follow.
OnnxGraph: TypeAlias = Any

INPUT = "image"
OUTPUT = "probabilities"
BATCH = "batch"
# Read by every ONNX Runtime since 1.12, that is, by every Triton image from 22.07 on.
OPSET = 17


def write_onnx(model: KerasObject, path: Path) -> None:
    """Write ``model`` to ``path``: input ``image`` (batch, 28, 28, 1), output ``probabilities``."""
    import onnx

    with quiet():
        model.export(str(path), format="onnx", opset_version=OPSET, verbose=False)
    proto = onnx.load(path)
    graph = proto.graph
    _rename(graph, graph.input[0].name, INPUT)
    _rename(graph, graph.output[0].name, OUTPUT)
    for tensor in (graph.input[0], graph.output[0]):
        dimension = tensor.type.tensor_type.shape.dim[0]
        dimension.Clear()
        dimension.dim_param = BATCH
    graph.name = model.name
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def _rename(graph: OnnxGraph, old: str, new: str) -> None:
    """Rename one tensor everywhere in the main graph and in the bodies of its loops and branches."""
    for tensor in (*graph.input, *graph.output, *graph.value_info):
        if tensor.name == old:
            tensor.name = new
    _rename_in_nodes(graph, old, new)


def _rename_in_nodes(graph: OnnxGraph, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_in_nodes(attribute.g, old, new)


def write_saved_model(model: KerasObject, path: Path) -> None:
    """Write ``model`` as a SavedModel whose default signature has the same tensor names.

    Raises:
        OSError: it cannot be written, such as for want of room.
    """
    import keras
    import tensorflow as tf

    def serve(image: KerasObject) -> dict[str, KerasObject]:
        return {OUTPUT: model(image, training=False)}

    with quiet():
        archive = keras.export.ExportArchive()
        archive.track(model)
        signature = [tf.TensorSpec((None, *SHAPE), tf.float32, name=INPUT)]
        archive.add_endpoint("serve", serve, input_signature=signature)
        try:
            archive.write_out(str(path), verbose=False)
        except tf.errors.OpError as error:
            # TensorFlow's own writer raises its own errors.
            raise OSError(error.message.rpartition("; ")[2] or str(error)) from error


def run_onnx(path: Path, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Answers of ONNX Runtime in this process, float32 of shape (examples, classes)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [session.run([OUTPUT], {INPUT: x[i : i + 256]})[0] for i in range(0, len(x), 256)]
    return np.concatenate(parts)
