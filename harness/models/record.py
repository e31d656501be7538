"""``training.json``: how a model was made, and the folder that holds it.

build/models/cnn/
  training.json    TrainingRecord
  model.keras      as Keras saves it
  model.onnx       opset 17; ``image`` float32 (batch, 28, 28, 1) → ``probabilities`` (batch, classes)
  saved_model/     the same tensors, for TensorFlow
  reference.npz    test images and Keras' own answers to them (see harness.reference)
"""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from harness.folder import digests, whole_folder
from harness.models.evaluation import Evaluation, evaluate
from harness.models.framework import quiet
from harness.models.onnx_file import (
    INPUT,
    OPSET,
    OUTPUT,
    run_onnx,
    write_onnx,
    write_saved_model,
)
from harness.models.settings import Settings
from harness.models.training import Trained, probabilities
from harness.networks import SHAPE
from harness.point import Frozen
from harness.reference import Reference, write_reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.models.dataset import Split

__all__ = [
    "RECORD",
    "SCHEMA_VERSION",
    "TrainingRecord",
    "package_versions",
    "write_model",
]

RECORD = "training.json"
SCHEMA_VERSION = 1
REFERENCE_EXAMPLES = 512
PACKAGES = (
    "keras", "numpy", "onnx", "onnxruntime", "pillow", "scikit-learn", "tensorflow", "tf2onnx",
)  # fmt: skip


class TrainingRecord(Frozen):
    """How a model was made and how good it is.

    Attributes:
        model: the network's name.
        data: ``name``, ``rows``, ``dropped`` (by reason), ``train``, ``validation``, ``test`` (sizes).
        settings: everything that decides the result.
        metrics: by part (``train``, ``validation``, ``test``): accuracy, recall_macro, f1_macro, loss.
        per_class: of the test part: name, precision, recall, f1, examples.
        confusion: of the test part, true class by predicted class.
        history: one row an epoch.
        parity: largest absolute difference from Keras' answers on the test part, by file.
        files: SHA-256 of every file but the record and the page, by path within the folder.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    created_utc: datetime
    parameters: int
    input: dict[str, Any]
    output: dict[str, Any]
    classes: tuple[str, ...]
    opset: int
    data: dict[str, Any]
    settings: Settings
    metrics: dict[str, dict[str, float]]
    per_class: tuple[dict[str, Any], ...]
    confusion: tuple[tuple[int, ...], ...]
    history: tuple[dict[str, float], ...]
    duration_s: float
    parity: dict[str, float]
    packages: dict[str, str]
    platform: str
    files: dict[str, str] = Field(default_factory=dict)


def write_model(
    path: Path,
    settings: Settings,
    parts: Split,
    trained: Trained,
    finish: Callable[[Path], object] | None = None,
) -> TrainingRecord:
    """Write the folder of a trained model, whole or not at all; an older one is replaced at the end.

    ``finish`` is given the filled folder before it takes its place, such as to add a page to it.

    Raises:
        UsageError: ``path`` holds something that is not a model of ours.
        EnvironmentFailedError: the folder cannot be written.
    """
    test = parts.test
    answers = probabilities(trained.model, test.x)
    evaluations = {
        name: evaluate(probabilities(trained.model, part.x), part.y, part.classes)
        for name, part in (("train", parts.train), ("validation", parts.validation))
    } | {"test": evaluate(answers, test.y, test.classes)}
    with whole_folder(path, RECORD) as folder:
        with quiet():
            trained.model.save(folder / "model.keras")
        write_onnx(trained.model, folder / "model.onnx")
        write_saved_model(trained.model, folder / "saved_model")
        few = slice(REFERENCE_EXAMPLES)
        write_reference(
            folder / "reference.npz",
            Reference({INPUT: test.x[few]}, {OUTPUT: answers[few]}, test.y[few]),
        )
        difference = np.abs(run_onnx(folder / "model.onnx", test.x) - answers).max()
        record = TrainingRecord(
            model=settings.network,
            created_utc=datetime.now(UTC),
            parameters=trained.parameters,
            input={"name": INPUT, "dtype": "float32", "dims": list(SHAPE)},
            output={"name": OUTPUT, "dtype": "float32", "dims": [len(test.classes)]},
            classes=test.classes,
            opset=OPSET,
            data={
                "name": test.name,
                "rows": test.rows,
                "dropped": test.dropped,
                "train": len(parts.train.y),
                "validation": len(parts.validation.y),
                "test": len(test.y),
            },
            settings=settings,
            metrics={name: _headline(result) for name, result in evaluations.items()},
            per_class=tuple(evaluations["test"].as_json()["classes"]),
            confusion=evaluations["test"].confusion,
            history=trained.history,
            duration_s=round(trained.duration_s, 3),
            parity={"model.onnx": float(difference)},
            packages=package_versions(),
            platform=f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
            files=digests(folder),
        )
        (folder / RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if finish:
            finish(folder)
    return record


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what a fit gives."""
    return {name: metadata.version(name) for name in PACKAGES}


def _headline(result: Evaluation) -> dict[str, float]:
    return {
        "accuracy": result.accuracy,
        "recall_macro": result.recall_macro,
        "f1_macro": result.f1_macro,
        "loss": result.loss,
    }
