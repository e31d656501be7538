"""Export: write a model to the model repository, whole or not at all, and prove its answers first."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.errors import UsageError
from harness.folder import digests, whole_folder
from harness.reference import Reference, write_reference
from harness.repository.building import build_configuration, resolve_max_batch_size
from harness.repository.configuration import configuration_text, read_configuration
from harness.repository.exported import RECORD, RECORD_VERSION, open_model
from harness.repository.formats import FORMATS, check_format
from harness.repository.graph import OnnxSession, read_graph
from harness.repository.options import ServingOptions
from harness.repository.parity import BATCH, LARGEST_DIFFERENCE, Parity, accuracy, answers_of
from harness.repository.parity import compare_answers as compare
from harness.repository.precision import Loss, judge, write_precision
from harness.repository.versions import carry_over, reference_name, served_version
from harness.scenario import NAME

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.point import Precision
    from harness.repository.exported import ExportedModel
    from harness.repository.source import Source

__all__ = ["Exported", "Target", "export_model"]

# How far a served answer may lie from reference.npz, absolutely and relatively. Reduced precision is
# computed in another order for another batch size or by another version of the runtime.
TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "float16": 1e-2, "int8": 1e-2}


@dataclass(frozen=True)
class Target:
    """What to make of a model.

    Attributes:
        name: what Triton will call it.
        options: how it is to be served.
        precision: of weights and arithmetic.
        max_accuracy_loss: what float16 or int8 may lose, as a share (0.01 is one in a hundred).
        version: number of the version that is written.
        beside: keep the other versions that were exported before.
    """

    name: str
    options: ServingOptions = field(default_factory=ServingOptions)
    precision: Precision = "float32"
    max_accuracy_loss: float = 0.01
    version: int = 1
    beside: bool = False


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        model: the exported model.
        parity: how far its answers are from the reference.
        loss: what a reduced precision loses; ``None`` for float32.
        accuracy: share of the reference's examples that it classifies rightly; ``None`` without labels.
    """

    model: ExportedModel
    parity: Parity
    loss: Loss | None
    accuracy: float | None


def export_model(source: Source, root: Path, target: Target) -> Exported:
    """Export a model.

    Args:
        source: where it comes from.
        root: the model repository to write to.
        target: what to make of it.

    Raises:
        UsageError: the answers are not the reference's, a reduced precision loses too much, or the
            options contradict each other; nothing was written then.
        EnvironmentFailedError: the repository cannot be written to.
    """
    _check_name(target.name)
    options, graph = target.options, source.graph
    check_format(
        options, target.precision, {spec.data_type for spec in (*graph.inputs, *graph.outputs)}
    )
    config = build_configuration(
        target.name,
        graph.inputs,
        graph.outputs,
        options,
        max_batch_size=resolve_max_batch_size(graph, options.max_batch_size),
        example_shapes={name: array.shape[1:] for name, array in source.reference.inputs.items()},
    )
    with TemporaryDirectory(prefix="triton-harness-") as scratch:
        weights = _weights(source, target, Path(scratch))
        answers = _answers(source, target, weights)
        right = source.reference.outputs
        parity = compare(right, answers, where=source.origin)
        loss = None
        if target.precision == "float32":
            _prove(parity, source.origin)
        else:
            loss = judge(right, answers, source.reference.labels)
            _accept(loss, target, source.origin)
        correct = accuracy(answers, source.reference.labels)
        # The load checks served answers against these: a variant's own, or the right ones.
        reference = Reference(
            source.reference.inputs,
            right if loss is None else answers,
            source.reference.labels,
        )
        entry = _entry(source, target, weights, parity, loss) | {"accuracy": correct}
        with whole_folder(root / target.name, "config.pbtxt") as folder:
            records = (
                carry_over(root, target.name, folder, target.version, config)
                if (target.beside)
                else {}
            )
            records[target.version] = entry
            served = served_version(set(records), options.version_policy, name=target.name)
            _write_version(folder / str(target.version), weights, source, options)
            _check_written(folder / str(target.version), source, options, answers)
            write_reference(
                folder / f"reference-{target.version}.npz", _on_the_wire(reference, config)
            )
            (folder / f"reference-{served}.npz").rename(folder / reference_name(served, served))
            _write_configuration(folder / "config.pbtxt", config)
            record = {
                "schema_version": RECORD_VERSION,
                "harness_version": __version__,
                "name": target.name,
                "backend": options.backend,
                "options": options.model_dump(mode="json"),
                "served_version": served,
                **records[served],
                "versions": {str(number): records[number] for number in sorted(records)},
                "files": digests(folder),
            }
            (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return Exported(open_model(root, target.name), parity, loss, correct)


def _check_name(name: str) -> None:
    """Refuse a name that Triton, a scenario or the file system would not take."""
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"{name!r} cannot be the name of a model",
            remedy="Use letters, digits, dots, hyphens and underscores, and begin with a letter or digit",
        )


def _weights(source: Source, target: Target, scratch: Path) -> Path:
    """The file or folder that goes into the version's folder as the backend's weights."""
    if FORMATS[target.options.backend].weights == "model.savedmodel":
        if source.saved_model is None:
            raise UsageError(
                "the TensorFlow backend needs a SavedModel, and there is none",
                where=source.origin,
                remedy="Give one with --saved-model, a Keras model with --keras, or another --backend",
            )
        return source.saved_model.path
    if target.precision == "float32":
        return source.graph.path
    converted = scratch / "model.onnx"
    write_precision(
        source.graph.path,
        converted,
        target.precision,
        source.reference.inputs,
        batched=source.batched,
        origin=source.origin,
    )
    return converted


def _answers(source: Source, target: Target, weights: Path) -> dict[str, npt.NDArray[Any]]:
    """What the exported model answers to the example inputs, computed in this process."""
    inputs = source.reference.inputs
    if source.saved_model is not None and weights == source.saved_model.path:
        run = source.saved_model.run
    else:
        level = target.options.graph_optimization
        run = OnnxSession(weights, source.origin, optimization=level).run
    return answers_of(run, inputs, batched=source.batched, where=source.origin)


def _prove(parity: Parity, where: str) -> None:
    if not parity.holds:
        raise UsageError(
            f"the model's answers differ from the reference by {parity.largest_difference:.2g}"
            f" in {parity.tensor}; at most {LARGEST_DIFFERENCE:g} is allowed",
            where=where,
            remedy="Make the model again, so that it and its reference fit",
        )


def _accept(loss: Loss, target: Target, where: str) -> None:
    if not loss.loss <= target.max_accuracy_loss:
        raise UsageError(
            f"{target.precision} loses {loss.loss:.2%} ({loss.measure} over {loss.examples}"
            f" examples); at most {target.max_accuracy_loss:.2%} is allowed",
            where=where,
            remedy="Allow more with --max-accuracy-loss, or export another precision",
        )


def _entry(
    source: Source, target: Target, weights: Path, parity: Parity, loss: Loss | None
) -> dict[str, Any]:
    """What the record says of one version."""
    graph = read_graph(weights, source.origin) if weights.is_file() else source.graph
    return {
        "source": source.origin,
        "precision": target.precision,
        "opset": graph.opset,
        "ir_version": graph.ir_version,
        "parity": {
            "largest_difference": parity.largest_difference,
            "allowed": LARGEST_DIFFERENCE if loss is None else None,
            "tensor": parity.tensor,
            "examples": parity.examples,
        },
        "loss": None if loss is None else asdict(loss) | {"allowed": target.max_accuracy_loss},
        "tolerance": TOLERANCE[target.precision],
        "training": source.training,
    }


def _write_version(version: Path, weights: Path, source: Source, options: ServingOptions) -> None:
    version.mkdir()
    path = version / FORMATS[options.backend].weights
    if weights.is_dir():
        shutil.copytree(weights, path)
    else:
        shutil.copyfile(weights, path)
    if weights == source.graph.path:
        for name in source.graph.external_files:
            (version / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(weights.parent / name, version / name)
    if options.backend == "python":
        # Data of this package: the server's own Python runs it.
        model = files("harness.repository") / "backends" / "onnx_python" / "model.py"
        (version / "model.py").write_bytes(model.read_bytes())


def _check_written(
    version: Path,
    source: Source,
    options: ServingOptions,
    answers: dict[str, npt.NDArray[Any]],
) -> None:
    """The file as it stands in the version's folder must load there, and answer as the one judged.

    Weights that stand in files of their own would otherwise be missed only by the server. One batch of
    the same size as before gives the same sums; the SavedModel is copied with all that its folder holds.
    """
    path = version / FORMATS[options.backend].weights
    if path.is_dir():
        return
    inputs = {name: array[:BATCH] for name, array in source.reference.inputs.items()}
    session = OnnxSession(path, source.origin, optimization=options.graph_optimization)
    written = answers_of(session.run, inputs, batched=source.batched, where=source.origin)
    judged = {name: array[:BATCH] for name, array in answers.items()}
    if not compare(judged, written, where=source.origin).holds:
        raise UsageError(
            "the model answers differently once it is copied",
            where=source.origin,
            remedy="Save it with its weights in one file, or beside it under other names",
        )


def _write_configuration(path: Path, config: dict[str, Any]) -> None:
    path.write_text(configuration_text(config), encoding="utf-8")
    if read_configuration(path) != config:
        raise AssertionError(f"{path} does not read back as what was written")


def _on_the_wire(reference: Reference, config: dict[str, Any]) -> Reference:
    """The shapes that Triton sees: what has no dimension but the batch travels as ``[1]``."""
    flat = {
        tensor["name"] for tensor in (*config["input"], *config["output"]) if "reshape" in tensor
    }

    def shaped(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return {
            name: array.reshape(len(array), 1) if name in flat else array
            for name, array in arrays.items()
        }

    return Reference(shaped(reference.inputs), shaped(reference.outputs), reference.labels)
