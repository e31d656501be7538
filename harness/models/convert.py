"""Keras models and SavedModels to ONNX, and their own answers, which an export is held against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from harness.errors import UsageError
from harness.models.framework import load_keras, quiet
from harness.models.onnx_file import OPSET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["Converted", "convert_keras", "convert_saved_model", "saved_model_run"]

# TensorFlow, Keras and onnx ship no types that a checker could follow.
TensorFlowObject: TypeAlias = Any
Arrays: TypeAlias = "dict[str, npt.NDArray[Any]]"
# One execution: from arrays to arrays by tensor name, with the batch dimension where the model has one.
Run: TypeAlias = "Callable[[Arrays], Arrays]"

SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Converted:
    """A model in the formats that Triton's backends read.

    Attributes:
        onnx: the ONNX file; its tensors are named as in the SavedModel's signature.
        saved_model: the SavedModel.
        run: executes the original.
        saved_model_run: executes the SavedModel.
    """

    onnx: Path
    saved_model: Path
    run: Run
    saved_model_run: Run


def convert_keras(file: Path, folder: Path, *, opset: int = OPSET) -> Converted:
    """Convert a Keras model; its tensors get the names of its inputs and output layers, or their keys in a dict.

    Args:
        file: a ``.keras`` or ``.h5`` file. What would run code of its own (lambdas, custom layers) is
            not loaded.
        folder: an empty folder to write to.
        opset: version of the ONNX operators to use.

    Raises:
        UsageError: the file cannot be loaded or converted, or says nothing of its inputs.
    """
    if not file.is_file():
        raise UsageError("no such Keras model", where=str(file), remedy="Give a .keras file")
    keras = load_keras()
    model = _attempt(
        lambda: keras.saving.load_model(file, compile=False, safe_mode=True),
        "Keras cannot load the model",
        file,
        "Give a .keras file whose layers are all Keras' own, or a SavedModel",
    )
    if not getattr(model, "inputs", None):
        raise UsageError(
            "the Keras model was never built, so that its inputs are not known",
            where=str(file),
            remedy="Build it with keras.Input, and save it again",
        )
    taken = getattr(model, "input", model.inputs)
    input_names = _names(taken, [tensor.name for tensor in model.inputs])
    layers = list(getattr(model, "output_names", ())) or ["output"]
    if len(layers) != len(model.outputs):
        layers = [f"output_{place}" for place in range(len(model.outputs))]
    output_names = _names(getattr(model, "output", None), layers)

    def serve(*tensors: TensorFlowObject) -> dict[str, TensorFlowObject]:
        # Keras sorts the keys of a dict where it flattens one, and its lists of tensors are flat.
        inputs = keras.tree.pack_sequence_as(taken, list(tensors))
        answers = keras.tree.flatten(model(inputs, training=False))
        return dict(zip(output_names, answers, strict=True))

    saved_model = folder / "saved_model"
    _attempt(
        lambda: _write_saved_model(model, serve, saved_model, input_names),
        "Keras cannot save the model as a SavedModel",
        file,
        "Convert it to ONNX yourself and export it with --onnx",
    )
    converted = convert_saved_model(saved_model, folder, opset=opset, origin=file)

    def run(arrays: Arrays) -> Arrays:
        answers = _execute(lambda: serve(*(arrays[name] for name in input_names)), file)
        return {name: _array(value) for name, value in answers.items()}

    return Converted(converted.onnx, saved_model, run, converted.saved_model_run)


def convert_saved_model(
    directory: Path, folder: Path, *, opset: int = OPSET, origin: Path | None = None
) -> Converted:
    """Convert a SavedModel's default signature.

    Args:
        directory: the SavedModel.
        folder: a folder to write to.
        opset: version of the ONNX operators to use.
        origin: what the user named, where the SavedModel was made from it.

    Raises:
        UsageError: it cannot be loaded or converted.
    """
    load_keras()
    import tensorflow as tf

    signature = _signature(directory, origin or directory)
    specs = signature.structured_input_signature[1]
    names = sorted(specs)

    def serve(*tensors: TensorFlowObject) -> dict[str, TensorFlowObject]:
        answers = signature(**dict(zip(names, tensors, strict=True)))
        return {name: tf.identity(value, name=name) for name, value in answers.items()}

    asked = [tf.TensorSpec(specs[name].shape, specs[name].dtype, name=name) for name in names]
    target = folder / "model.onnx"
    _attempt(
        lambda: _to_onnx(tf.function(serve, input_signature=asked), asked, target, opset),
        f"tf2onnx cannot convert the model to ONNX with opset {opset}",
        origin or directory,
        "Give another --opset, or convert it yourself and export it with --onnx",
    )
    execute = saved_model_run(directory, origin)
    return Converted(target, directory, execute, execute)


def saved_model_run(directory: Path, origin: Path | None = None) -> Run:
    """Return what executes a SavedModel's default signature; it is loaded at the first call.

    Args:
        directory: the SavedModel.
        origin: what the user named, where the SavedModel was made from it.
    """
    named = origin or directory
    signature = cache(lambda: _signature(directory, named))

    def run(arrays: Arrays) -> Arrays:
        load_keras()
        import tensorflow as tf

        execute = signature()
        inputs = {name: tf.constant(array) for name, array in arrays.items()}
        answers = _execute(lambda: execute(**inputs), named)
        return {name: _array(value) for name, value in answers.items()}

    return run


def _signature(directory: Path, origin: Path) -> TensorFlowObject:
    import tensorflow as tf

    where = str(origin)
    if not (directory / "saved_model.pb").is_file():
        raise UsageError(
            "no SavedModel", where=where, remedy="Give the folder that holds saved_model.pb"
        )
    loaded = _attempt(
        lambda: tf.saved_model.load(str(directory)),
        "TensorFlow cannot load the SavedModel",
        origin,
        "Save it again with tf.saved_model.save or model.export",
    )
    if SIGNATURE not in loaded.signatures:
        raise UsageError(
            f"the SavedModel has no signature {SIGNATURE}",
            where=where,
            remedy="Save it with one: Triton serves that",
        )
    signature = loaded.signatures[SIGNATURE]
    signature.owner = loaded  # a signature alone would not keep the model's variables alive
    return signature


def _write_saved_model(
    model: TensorFlowObject,
    serve: Callable[..., dict[str, TensorFlowObject]],
    path: Path,
    input_names: Sequence[str],
) -> None:
    import keras
    import tensorflow as tf

    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
        for tensor, name in zip(model.inputs, input_names, strict=True)
    ]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve, input_signature=specs)
    archive.write_out(str(path), verbose=False)


def _to_onnx(
    function: TensorFlowObject, signature: TensorFlowObject, target: Path, opset: int
) -> None:
    import onnx
    import tf2onnx  # type: ignore[import-untyped]
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    patch_tf2onnx()  # tf2onnx 1.17 does not know NumPy 2; Keras mends it for its own export
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=opset)
    tensors = (*proto.graph.input, *proto.graph.output)
    for tensor in tensors:
        for size in tensor.type.tensor_type.shape.dim[:1]:
            if size.WhichOneof("value") != "dim_value":
                size.dim_param = "batch"
    onnx.checker.check_model(proto)
    onnx.save(proto, target)


def _array(tensor: TensorFlowObject) -> npt.NDArray[Any]:
    array = np.asarray(tensor)
    return array.astype(np.bytes_) if array.dtype.kind == "O" else array


def _names(structure: TensorFlowObject, names: Sequence[str]) -> list[str]:
    """Names of a model's flat list of tensors: their keys where it takes or gives a dict, else ``names``."""
    import keras

    if isinstance(structure, dict) and not any(
        isinstance(value, dict | list | tuple) for value in structure.values()
    ):
        names = keras.tree.flatten({key: key for key in structure})
    return _unique(names)


def _unique(names: Sequence[str]) -> list[str]:
    """Names that a graph may have, each once."""
    cleaned = [name.split(":")[0].replace("/", "_") for name in names]
    return [
        name if cleaned.count(name) == 1 else f"{name}_{cleaned[:place].count(name)}"
        for place, name in enumerate(cleaned)
    ]


def _execute(work: Callable[[], Any], where: Path) -> Any:  # noqa: ANN401
    return _attempt(
        work,
        "the model does not take the example inputs",
        where,
        "Give others with --shape and --range, or with --data",
    )


def _attempt(work: Callable[[], Any], what: str, where: Path, remedy: str) -> Any:  # noqa: ANN401
    """Do ``work`` quietly; turn whatever Keras, TensorFlow or tf2onnx raise into one sentence."""
    with quiet():
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - they raise what the damaged part raises
            failure = error
    reason = " ".join(str(failure).split())[:200] or type(failure).__name__
    raise UsageError(f"{what} ({reason})", where=str(where), remedy=remedy) from failure
