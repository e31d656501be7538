"""An exported model: a folder of the model repository with its configuration and its record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.repository.configuration import read_configuration

if TYPE_CHECKING:
    from pathlib import Path

    from harness.point import Precision

__all__ = ["RECORD", "RECORD_VERSION", "REFERENCE", "ExportedModel", "open_model"]

RECORD = "export.json"
RECORD_VERSION = 1
REFERENCE = "reference.npz"


@dataclass(frozen=True)
class ExportedModel:
    """A model in a model repository, as ``harness export`` wrote it.

    Attributes:
        name: the model's name.
        folder: where it is, such as ``triton_models/cnn``.
        configuration: ``config.pbtxt`` as a JSON object with the proto's names.
        record: ``export.json``: backend, source, checksums, parity, accuracy, options.
        reference: example inputs with their right answers; ``None`` where there are none.
    """

    name: str
    folder: Path
    configuration: dict[str, Any]
    record: dict[str, Any]
    reference: Path | None


def open_model(root: Path, name: str, precision: Precision | None = None) -> ExportedModel:
    """Open a model that was exported to the repository ``root``.

    Args:
        root: the model repository.
        name: the model's name.
        precision: what it must have been exported in; ``None`` for any.

    Raises:
        UsageError: it is missing, not whole, or of another precision.
    """
    folder = root / name
    remedy = f"Make it with harness export --name {name}"
    if precision is not None:
        remedy += f" --precision {precision}"
    if not (folder / "config.pbtxt").is_file():
        raise UsageError(f"no exported model {name}", where=str(folder), remedy=remedy)
    configuration = read_configuration(folder / "config.pbtxt")
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        # A fresh clone holds config.pbtxt and nothing else.
        raise UsageError(
            f"the model {name} has a configuration but was not exported here",
            where=str(folder),
            remedy=remedy,
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"not a readable record ({error})", where=str(folder / RECORD), remedy=remedy
        ) from error
    version = record.get("schema_version") if isinstance(record, dict) else None
    if not isinstance(version, int) or version > RECORD_VERSION:
        raise UsageError(
            f"the record has schema {version}, this harness reads up to {RECORD_VERSION}",
            where=str(folder / RECORD),
            remedy=remedy,
        )
    exported = record.get("precision", "float32")
    if precision is not None and precision != exported:
        raise UsageError(
            f"the model {name} was exported as {exported}, and the sweep asks for {precision}",
            where=str(folder),
            remedy=remedy,
        )
    reference = folder / REFERENCE
    return ExportedModel(
        name, folder, configuration, record, reference if reference.is_file() else None
    )
