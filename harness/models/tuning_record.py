"""What tuning found: ``tuning.json``, and for the best candidates settings that can be trained with."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import yaml

from harness.archive import whole_file
from harness.models.serving_cost import ServingCost
from harness.models.settings import Settings
from harness.point import Frozen

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SCHEMA_VERSION", "CandidateResult", "Spread", "TuningRecord", "write_tuning"]

SCHEMA_VERSION = 1


class Spread(Frozen):
    """A figure over the folds: mean, sample standard deviation, and each fold's own."""

    mean: float
    std: float
    folds: tuple[float, ...]


class CandidateResult(Frozen):
    """A candidate: what it reaches and what it costs.

    Attributes:
        fit_s: mean duration of a fit, in seconds.
        front: whether it is on the Pareto front of accuracy against latency.
        near_best: whether its mean accuracy is within one standard error of the best one's.
    """

    settings: Settings
    accuracy: Spread
    recall_macro: Spread
    f1_macro: Spread
    fit_s: float
    cost: ServingCost
    front: bool = False
    near_best: bool = False


class TuningRecord(Frozen):
    """``tuning.json``: candidates from the best to the worst mean accuracy."""

    schema_version: int = SCHEMA_VERSION
    created_utc: datetime
    method: str
    data: dict[str, Any]
    folds: int
    seed: int
    fits: int
    reused_fits: int
    duration_s: float
    cores: int
    packages: dict[str, str]
    candidates: tuple[CandidateResult, ...]


def write_tuning(record: TuningRecord, folder: Path) -> None:
    """Write ``tuning.json``, ``best.yaml``, and ``best-<network>.yaml`` for the best of each network.

    Raises:
        EnvironmentFailedError: the folder cannot be written to.
    """
    best = {"best": record.candidates[0]}
    for candidate in record.candidates:
        best.setdefault(f"best-{candidate.settings.network}", candidate)
    for name, candidate in best.items():
        accuracy = candidate.accuracy
        found = f"accuracy {accuracy.mean:.4f} ± {accuracy.std:.4f} over {record.folds} folds"
        values = candidate.settings.model_dump(exclude_defaults=True)
        values |= {"network": candidate.settings.network, "seed": record.seed}
        text = yaml.safe_dump(values, sort_keys=False)
        with whole_file(folder / f"{name}.yaml") as file:
            file.write_text(f"# Found by harness tune: {found}.\n{text}", encoding="utf-8")
    with whole_file(folder / "tuning.json") as file:
        file.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
