"""What ``harness train`` left, read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.models.record import RECORD, TrainingRecord

if TYPE_CHECKING:
    from pathlib import Path


def read_record(folder: Path) -> TrainingRecord:
    """The ``training.json`` of a model's folder."""
    return TrainingRecord.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
