"""Export: write a model to the model repository, whole or not at all, and prove its answers first."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.errors import UsageError
from harness.folder import whole_folder
from harness.reference import read_reference
from harness.repository.building import build_configuration, resolve_max_batch_size
from harness.repository.configuration import configuration_text
from harness.repository.exported import RECORD, RECORD_VERSION, REFERENCE, open_model
from harness.repository.graph import OnnxSession, read_graph
from harness.repository.parity import (
    LARGEST_DIFFERENCE,
    Parity,
    accuracy,
    answers_of,
    compare_answers,
)

if TYPE_CHECKING:
    from pathlib import Path

    from harness.repository.exported import ExportedModel
    from harness.repository.options import ServingOptions

__all__ = ["Exported", "export_trained"]

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"  # as a scenario may name it


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        model: the exported model.
        parity: how far its answers are from the reference.
        accuracy: share of the reference's examples that it classifies rightly; ``None`` without labels.
    """

    model: ExportedModel
    parity: Parity
    accuracy: float | None


def export_trained(source: Path, root: Path, name: str, options: ServingOptions) -> Exported:
    """Export a model that ``harness train`` made.

    Args:
        source: its folder, with ``model.onnx``, ``reference.npz`` and ``training.json``.
        root: the model repository to write to.
        name: what Triton will call the model.
        options: how it is to be served.

    Raises:
        UsageError: the source is not whole, its answers are not the reference's, or the options
            contradict each other; nothing was written then.
        EnvironmentFailedError: the repository cannot be written to.
    """
    check_name(name)
    training = _training_record(source)
    graph = read_graph(source / "model.onnx")
    reference = read_reference(source / REFERENCE)
    max_batch_size = resolve_max_batch_size(graph, options)
    config = build_configuration(
        name,
        graph.inputs,
        graph.outputs,
        options,
        max_batch_size=max_batch_size,
        example_shapes={key: array.shape[1:] for key, array in reference.inputs.items()},
    )
    session = OnnxSession(graph.path)
    answers = answers_of(session, reference.inputs, batched=max_batch_size > 0)
    parity = compare_answers(reference.outputs, answers, where=str(graph.path))
    if not parity.largest_difference <= LARGEST_DIFFERENCE:
        raise UsageError(
            f"the model's answers differ from the reference by {parity.largest_difference:.2g}"
            f" in {parity.tensor}; at most {LARGEST_DIFFERENCE:g} is allowed",
            where=str(graph.path),
            remedy="Train the model again, so that model.onnx and reference.npz fit",
        )
    correct = accuracy(answers, reference.labels)
    with whole_folder(root / name, "config.pbtxt") as folder:
        (folder / "config.pbtxt").write_text(configuration_text(config), encoding="utf-8")
        version = folder / "1"
        version.mkdir()
        shutil.copyfile(graph.path, version / "model.onnx")
        shutil.copyfile(source / REFERENCE, folder / REFERENCE)
        _write_backend(version)
        record = {
            "schema_version": RECORD_VERSION,
            "harness_version": __version__,
            "name": name,
            "backend": options.backend,
            "source": str(source),
            "opset": graph.opset,
            "ir_version": graph.ir_version,
            "parity": {
                "largest_difference": parity.largest_difference,
                "allowed": LARGEST_DIFFERENCE,
                "tensor": parity.tensor,
                "examples": parity.examples,
            },
            "accuracy": correct,
            "options": options.model_dump(mode="json"),
            "training": training,
            "files": _digests(folder),
        }
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return Exported(open_model(root, name), parity, correct)


def check_name(name: str) -> None:
    """Refuse a name that Triton, a scenario or the file system would not take.

    Raises:
        UsageError: with the rule.
    """
    if not re.fullmatch(MODEL_NAME, name):
        raise UsageError(
            f"{name!r} cannot be the name of a model",
            remedy="Use letters, digits, dots, hyphens and underscores, and begin with a letter or digit",
        )


def _training_record(source: Path) -> dict[str, Any]:
    path = source / "training.json"
    remedy = "Train the network first with harness train, or give its folder with --source"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError("no trained model", where=str(source), remedy=remedy) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"not a readable record ({error})", where=str(path)) from error
    kept = ("model", "parameters", "metrics", "data", "settings", "created_utc", "packages")
    return {key: record[key] for key in kept if key in record} if isinstance(record, dict) else {}


def _write_backend(version: Path) -> None:
    """The Python backend's file is data of this package: the server's own Python runs it."""
    source = files("harness.repository") / "backends" / "onnx_python" / "model.py"
    (version / "model.py").write_bytes(source.read_bytes())


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by path within the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }
