"""Studies of the trade-offs of training: batch size, learning rate, and the penalties."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.errors import UsageError
from harness.models.dataset import Split, split
from harness.models.measured_fit import measure_fit
from harness.models.record import package_versions
from harness.models.training import train_network
from harness.point import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.models.dataset import Dataset
    from harness.models.settings import Settings

    OnFit = Callable[[int, int, str], None]
    Row = dict[str, Any]

__all__ = ["DEFAULTS", "STUDIES", "StudyRecord", "check_study", "describe_curve", "run_study"]

SCHEMA_VERSION = 1

BATCH_SIZES = (8, 16, 32, 64, 128, 256)
LEARNING_RATES = (0.00001, 0.0001, 0.001, 0.01, 0.03)
PENALTIES = ((0.0, 0.0), (0.001, 0.0), (0.0, 0.01), (0.0001, 0.001))
# A fifth of the examples, so that the network has few enough to learn them by heart.
FEW_SHARE = 0.2
SEEDS = 3

# What each study trains with unless told otherwise: long enough for its point to show.
DEFAULTS: dict[str, dict[str, Any]] = {
    "batch-size": {"epochs": 4},
    "learning-rate": {"epochs": 12},
    "regularisation": {"epochs": 40, "batch_size": 32},
}

Curve = Literal["learns", "crawls", "oscillates", "does not learn"]


class StudyRecord(Frozen):
    """A study: what was varied, and one row a value with what it gave.

    Attributes:
        study: one of :data:`STUDIES`.
        data: ``name``, ``train`` and ``held_out`` (numbers of examples).
        settings: what was the same in all rows.
        rows: by study: the fields that its function describes.
    """

    schema_version: int = SCHEMA_VERSION
    study: str
    created_utc: datetime
    data: dict[str, Any]
    settings: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    duration_s: float
    cores: int
    packages: dict[str, str]
    platform: str


def check_study(name: str, epochs: int | None = None) -> None:
    """Refuse a study that is not there, or too few ``epochs`` for it.

    Raises:
        UsageError: so it is.
    """
    if name not in STUDIES:
        raise UsageError(
            "no such study", where=name, remedy=f"Give one or more of {', '.join(STUDIES)}"
        )
    if name == "batch-size" and epochs is not None and epochs < 2:
        raise UsageError(
            f"the first epoch builds the graph and is not timed, so {epochs} leaves none to time",
            where="--epochs",
            remedy="Give at least 2 for the study batch-size",
        )


def run_study(
    name: str,
    settings: Settings,
    data: Dataset,
    on_fit: OnFit | None = None,
) -> StudyRecord:
    """Run the study ``name`` around ``settings``.

    Args:
        name: one of :data:`STUDIES`.
        settings: what is kept fixed.
        data: cleaned examples; the test part is used by the batch-size study alone.
        on_fit: called before each fit with the fits done, planned, and what is fitted now.

    Raises:
        UsageError: there is no such study.
        EnvironmentFailedError: TensorFlow is missing, or a fit failed.
    """
    check_study(name, settings.epochs)
    started = time.monotonic()
    parts = split(data, settings.seed)
    if name == "regularisation":
        parts = _few(parts, settings.seed)
    rows = STUDIES[name](settings, parts, on_fit or (lambda _done, _planned, _now: None))
    return StudyRecord(
        study=name,
        created_utc=datetime.now(UTC),
        data={
            "name": data.name,
            "train": len(parts.train.y),
            "held_out": len((parts.test if name == "batch-size" else parts.validation).y),
        },
        settings=settings.model_dump(),
        rows=tuple(rows),
        duration_s=round(time.monotonic() - started, 1),
        cores=len(os.sched_getaffinity(0)),
        packages=package_versions(),
        platform=f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )


def _batch_sizes(settings: Settings, parts: Split, on_fit: OnFit) -> list[Row]:
    """Time and memory by batch size: ``batch_size`` and the fields of ``MeasuredFit``.

    Each fit has a process of its own, so that one's memory is not another's.
    """
    del parts
    rows = []
    for place, size in enumerate(BATCH_SIZES):
        on_fit(place, len(BATCH_SIZES), f"batch size {size}")
        fit = measure_fit(settings.model_copy(update={"batch_size": size}))
        rows.append({"batch_size": size, **fit.model_dump()})
    return rows


def _learning_rates(settings: Settings, parts: Split, on_fit: OnFit) -> list[Row]:
    """Loss curves by learning rate: ``learning_rate``, ``curve`` (in a word) and ``history``."""
    chance = math.log(len(parts.train.classes))
    rows = []
    for place, rate in enumerate(LEARNING_RATES):
        on_fit(place, len(LEARNING_RATES), f"learning rate {rate:g}")
        fit = settings.model_copy(update={"learning_rate": rate})
        history = train_network(fit, parts.train, parts.validation).history
        losses = [row["val_cross_entropy"] for row in history]
        curve = describe_curve(losses, chance)
        rows.append({"learning_rate": rate, "curve": curve, "history": history})
    return rows


def describe_curve(losses: Sequence[float], chance: float) -> Curve:
    """Say in a word how a loss went down.

    It *crawls* where it falls nearly all the time (four steps in five) and still ends above half of
    ``chance``; it *does not learn* where it ends there otherwise, or is no number; it *oscillates* where
    its rises together undo a factor of 1.65 (half a unit of its logarithm); else it *learns*.

    Args:
        losses: cross-entropy after each epoch, in nats.
        chance: that of a blind guess, the logarithm of the number of classes.
    """
    if not np.isfinite(losses).all():
        return "does not learn"
    steps = np.diff(np.log(np.maximum(losses, 1e-9)))
    if losses[-1] > chance / 2:
        falls = float((steps < 0).mean()) if len(steps) else 0.0
        return "crawls" if falls >= 0.8 and losses[-1] < chance else "does not learn"
    return "oscillates" if steps[steps > 0].sum() >= 0.5 else "learns"


def _penalties(settings: Settings, parts: Split, on_fit: OnFit) -> list[Row]:
    """The gap between training and validation, with and without penalties.

    ``l1``, ``l2``; over a few seeds mean and standard deviation of ``gap`` (cross-entropy of the
    validation less that of the training data, penalties left out), ``accuracy`` and ``val_accuracy``
    after the last epoch; ``history`` of the first seed.
    """
    rows = []
    for place, (l1, l2) in enumerate(PENALTIES):
        histories = []
        for number in range(SEEDS):
            state = f"L1 {l1:g}, L2 {l2:g}, seed {settings.seed + number}"
            on_fit(place * SEEDS + number, len(PENALTIES) * SEEDS, state)
            changes = {"l1": l1, "l2": l2, "seed": settings.seed + number}
            fit = settings.model_copy(update=changes)
            histories.append(train_network(fit, parts.train, parts.validation).history)
        last = [history[-1] for history in histories]
        figures = {
            "gap": [row["val_cross_entropy"] - row["cross_entropy"] for row in last],
            "accuracy": [row["accuracy"] for row in last],
            "val_accuracy": [row["val_accuracy"] for row in last],
        }
        rows.append(
            {
                "l1": l1,
                "l2": l2,
                **{name: statistics.fmean(values) for name, values in figures.items()},
                **{f"{name}_std": statistics.stdev(values) for name, values in figures.items()},
                "seeds": SEEDS,
                "history": histories[0],
            }
        )
    return rows


def _few(parts: Split, seed: int) -> Split:
    """Train on few of the training and validation examples, and watch all the others."""
    from sklearn.model_selection import train_test_split

    pool = parts.without_test()
    few, rest = train_test_split(
        np.arange(len(pool.y)), train_size=FEW_SHARE, stratify=pool.y, random_state=seed
    )
    return Split(pool.take(few), pool.take(rest), parts.test)


STUDIES: dict[str, Callable[[Settings, Split, OnFit], list[Row]]] = {
    "batch-size": _batch_sizes,
    "learning-rate": _learning_rates,
    "regularisation": _penalties,
}
