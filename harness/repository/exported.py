"""An exported model: a folder of the model repository with its configuration and its record."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from harness.errors import UsageError
from harness.networks import NETWORKS
from harness.point import Precision, variant_name
from harness.repository.configuration import read_configuration

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RECORD", "RECORD_VERSION", "REFERENCE", "ExportedModel", "open_model"]

RECORD = "export.json"
RECORD_VERSION = 1
REFERENCE = "reference.npz"
# Where harness train and harness export put what they make, unless told otherwise.
TRAINED, MODELS = Path("build/models"), Path("triton_models")


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
    remedy = _how_it_is_made(root, name)
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


def _how_it_is_made(root: Path, name: str) -> str:
    """The command that makes ``name``, or the nearest name that is there, for one mistyped."""
    base, options = name, ""
    for precision in get_args(Precision):
        stem = name.removesuffix(f"_{precision}")
        if stem != name and variant_name(stem, precision) == name:
            base, options = stem, f" --precision {precision}"
    if root != MODELS:
        options += f" --output {root}"
    command = f"harness export --source {TRAINED / base}{options}"
    if (TRAINED / base).is_dir():
        return f"Make it with {command}"
    exported = list(_exported(root))
    if base != name and base in exported:
        return f"Make it with harness export{options} from the model that {base} was made of"
    if near := difflib.get_close_matches(name, (each for each in exported if each != name), n=1):
        return f"Did you mean {near[0]}?"
    if base in NETWORKS:
        return (
            f"Train it with harness train --network {base}, then make it with {command}; a model of your"
            f" own with --onnx FILE --name {name}"
        )
    return f"Make it of your own model with harness export --onnx FILE --name {name}{options}"


def _exported(root: Path) -> Iterator[str]:
    """The names of the models that were exported to ``root``."""
    return (record.parent.name for record in sorted(root.glob(f"*/{RECORD}")))
