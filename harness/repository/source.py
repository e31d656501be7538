"""Where an exported model comes from: its graph, its example inputs, and their right answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.reference import Reference, read_reference
from harness.repository.building import resolve_max_batch_size
from harness.repository.data_files import check_labels, read_examples
from harness.repository.graph import Graph, OnnxSession, read_graph
from harness.repository.inputs import InputOptions, random_inputs
from harness.repository.opset import write_at_opset
from harness.repository.parity import answers_of, class_scores

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

__all__ = [
    "Examples",
    "Run",
    "SavedModel",
    "Source",
    "file_source",
    "onnx_source",
    "trained_source",
]

# One execution: from inputs to answers by tensor name, with the batch dimension where the model has one.
Run = Callable[["dict[str, npt.NDArray[Any]]"], "dict[str, npt.NDArray[Any]]"]

KEPT_OF_TRAINING = (
    "model", "parameters", "classes", "metrics", "data", "settings", "created_utc", "packages",
)  # fmt: skip


@dataclass(frozen=True)
class SavedModel:
    """A TensorFlow SavedModel, and what executes it."""

    path: Path
    run: Run


@dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        origin: the file or folder that the user named.
        graph: the model as ONNX.
        batched: the first dimension of every tensor is the batch.
        reference: example inputs with their right answers.
        saved_model: the same model for TensorFlow, where there is one.
        training: what the record of its training says; empty for a user's own model.
    """

    origin: str
    graph: Graph
    batched: bool
    reference: Reference
    saved_model: SavedModel | None = None
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Examples:
    """Where example inputs come from.

    Attributes:
        random: what random ones are made of.
        data: a file or folder to read instead; ``None`` for random ones.
        resize: bring pictures to the model's size.
    """

    random: InputOptions = field(default_factory=InputOptions)
    data: Path | None = None
    resize: bool = False


def trained_source(
    folder: Path, max_batch_size: int | None, saved_model_run: Callable[[Path], Run]
) -> Source:
    """A model that ``harness train`` made; the right answers are Keras' own.

    Args:
        folder: with ``model.onnx``, ``reference.npz``, ``training.json`` and ``saved_model``.
        max_batch_size: as asked for; ``None`` for the default.
        saved_model_run: makes what executes a SavedModel.

    Raises:
        UsageError: the folder is not whole, or the model cannot be batched as asked.
    """
    training = _training_record(folder)
    graph = read_graph(folder / "model.onnx")
    reference = read_reference(folder / "reference.npz")
    if resolve_max_batch_size(graph, max_batch_size) == 0:
        raise UsageError(
            "the trained network has a batch dimension, and max_batch_size 0 would leave it none",
            where=str(folder),
            remedy="Leave --max-batch-size out, or give 1 for one example at a time",
        )
    saved = folder / "saved_model"
    return Source(
        origin=str(folder),
        graph=graph,
        batched=True,
        reference=reference,
        saved_model=SavedModel(saved, saved_model_run(saved)) if saved.is_dir() else None,
        training=training,
    )


def file_source(
    path: Path,
    max_batch_size: int | None,
    examples: Examples,
    *,
    origin: str | None = None,
    run: Run | None = None,
    saved_model: SavedModel | None = None,
) -> Source:
    """A user's own model, as ONNX.

    Args:
        path: the ONNX file.
        max_batch_size: as asked for; ``None`` for the default.
        examples: where example inputs come from.
        origin: what the user named, where the ONNX file was made from it.
        run: executes what the right answers come from; ONNX Runtime in this process if left out.
        saved_model: the same model for TensorFlow, where there is one.

    Raises:
        UsageError: the file cannot be used, or the examples do not fit it.
    """
    graph = read_graph(path, origin)
    named = graph.origin
    batched = resolve_max_batch_size(graph, max_batch_size) > 0
    labels = None
    if examples.data is not None:
        inputs, labels = read_examples(
            examples.data, graph.inputs, batched=batched, resize=examples.resize
        )
    else:
        inputs = random_inputs(graph.inputs, examples.random, batched=batched, where=named)
    outputs = answers_of(run or OnnxSession(path, named).run, inputs, batched=batched, where=named)
    scores = class_scores(outputs)
    if examples.data is not None and labels is not None and scores is not None:
        check_labels(examples.data, labels, scores.shape[1])
    return Source(named, graph, batched, Reference(inputs, outputs, labels), saved_model)


def onnx_source(
    path: Path, max_batch_size: int | None, examples: Examples, opset: int | None, scratch: Path
) -> Source:
    """A user's own ONNX model; the right answers are ONNX Runtime's in this process.

    Args:
        path: the ONNX file.
        max_batch_size: as asked for; ``None`` for the default.
        examples: where example inputs come from.
        opset: convert it to this version of the operators first; ``None`` to leave it as it is.
        scratch: an empty folder for what it is converted to.

    Raises:
        UsageError: the file cannot be used or converted, or the examples do not fit it.
    """
    if opset is None:
        return file_source(path, max_batch_size, examples)
    resolve_max_batch_size(read_graph(path), max_batch_size)
    converted = scratch / "model.onnx"
    write_at_opset(path, converted, opset)
    return file_source(
        converted,
        max_batch_size,
        examples,
        origin=str(path),
        run=OnnxSession(path).run,
    )


def _training_record(folder: Path) -> dict[str, Any]:
    path = folder / "training.json"
    remedy = "Train the network first with harness train, or give its folder with --source"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError("no trained model", where=str(folder), remedy=remedy) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"not a readable record ({error})", where=str(path), remedy=remedy
        ) from error
    if not isinstance(record, dict):
        raise UsageError("not a readable record", where=str(path), remedy=remedy)
    return {key: record[key] for key in KEPT_OF_TRAINING if key in record}
