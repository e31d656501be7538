"""Tuning: candidates held against each other by k-fold cross-validation, and by what they cost to serve.

The test data is held back: it is the same that ``harness train`` with the same seed tests on, and no
candidate ever sees it.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from harness.models.dataset import refuse_small_classes, split
from harness.models.evaluation import evaluate
from harness.models.training import probabilities, train_network
from harness.models.tuning_record import CandidateResult, Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from harness.models.dataset import Dataset
    from harness.models.journal import Journal
    from harness.models.serving_cost import ServingCost
    from harness.models.settings import Settings

__all__ = [
    "FitProgress",
    "Folds",
    "cross_validate",
    "make_folds",
    "pareto_front",
    "rank",
]


class FitProgress(NamedTuple):
    """Where the tuning stands: fits done and planned, time left in seconds, the last fit in words."""

    done: int
    planned: int
    remaining_s: float
    last: str


@dataclass(frozen=True)
class Folds:
    """The training and validation data, and for each fold the rows learnt from and those held out."""

    pool: Dataset
    rows: tuple[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]], ...]


def make_folds(data: Dataset, count: int, seed: int) -> Folds:
    """Split the test part off and leave it alone; divide the rest into folds, stratified by class.

    Raises:
        UsageError: a class has fewer examples than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    pool = split(data, seed).without_test()
    refuse_small_classes(pool, count, f"fewer than the {count} folds once the test data is out")
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    return Folds(pool, tuple(splitter.split(pool.x, pool.y)))


def cross_validate(
    candidates: Sequence[Settings],
    folds: Folds,
    journal: Journal,
    on_fit: Callable[[FitProgress], None] | None = None,
) -> tuple[list[list[dict[str, float]]], int]:
    """Fit every candidate on every fold.

    Args:
        candidates: what to try; the seed of a fit is its candidate's plus the fold's number.
        folds: each is held out once.
        journal: knows the fits that are done, and is told of each new one.
        on_fit: called after each fit.

    Returns:
        For each candidate its folds' figures (accuracy, recall_macro, f1_macro, seconds), and how many
        fits came from the journal.
    """
    pool, count = folds.pool, len(folds.rows)
    digest = _digest(pool)
    pace = _Pace([(candidate.network, candidate.epochs) for candidate in candidates], count)
    results = []
    for candidate in candidates:
        figures = []
        for number, (rows, others) in enumerate(folds.rows):
            key = _key(candidate, digest, count, number)
            entry = journal.get(key)
            if entry is None:
                settings = candidate.model_copy(update={"seed": candidate.seed + number})
                entry = _fit(settings, pool.take(rows), pool.take(others))
                journal.add(key, {"settings": candidate.model_dump(), "fold": number, **entry})
                pace.fitted(candidate, entry["seconds"])
            else:
                pace.reused(candidate)
            figures.append(entry)
            if on_fit:
                on_fit(pace.progress(candidate, entry["accuracy"]))
        results.append(figures)
    return results, pace.reused_fits


def _fit(settings: Settings, train: Dataset, held_out: Dataset) -> dict[str, float]:
    started = time.monotonic()
    trained = train_network(settings, train)
    result = evaluate(probabilities(trained.model, held_out.x), held_out.y, held_out.classes)
    return {
        "accuracy": result.accuracy,
        "recall_macro": result.recall_macro,
        "f1_macro": result.f1_macro,
        "seconds": round(time.monotonic() - started, 3),
    }


def _digest(data: Dataset) -> str:
    """A fingerprint of the examples, so that a fit on other data is never taken for one on these."""
    digest = hashlib.sha256(data.x.tobytes())
    digest.update(data.y.tobytes())
    return digest.hexdigest()[:16]


def _key(candidate: Settings, digest: str, folds: int, number: int) -> str:
    import keras
    import tensorflow as tf

    parts = (candidate.model_dump_json(), digest, folds, number, keras.__version__, tf.__version__)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


class _Pace:
    """Estimates the time left from the fits of the same network, or else from all fits."""

    def __init__(self, kinds: list[tuple[str, int]], folds: int) -> None:
        self.left = [kind for kind in kinds for _ in range(folds)]
        self.planned = len(self.left)
        self.seconds_per_epoch: dict[str, list[float]] = {}
        self.reused_fits = 0

    def fitted(self, candidate: Settings, seconds: float) -> None:
        self.left.remove((candidate.network, candidate.epochs))
        pace = seconds / candidate.epochs
        self.seconds_per_epoch.setdefault(candidate.network, []).append(pace)

    def reused(self, candidate: Settings) -> None:
        self.left.remove((candidate.network, candidate.epochs))
        self.reused_fits += 1

    def progress(self, candidate: Settings, accuracy: float) -> FitProgress:
        every = [pace for paces in self.seconds_per_epoch.values() for pace in paces]
        overall = statistics.fmean(every) if every else 0.0
        remaining = 0.0
        for network, epochs in self.left:
            paces = self.seconds_per_epoch.get(network)
            remaining += epochs * (statistics.fmean(paces) if paces else overall)
        last = f"{candidate.network}, accuracy {accuracy:.3f}"
        return FitProgress(self.planned - len(self.left), self.planned, remaining, last)


def rank(
    candidates: Sequence[Settings],
    figures: Sequence[Sequence[Mapping[str, float]]],
    costs: Mapping[str, ServingCost],
) -> tuple[CandidateResult, ...]:
    """Sort from the best to the worst mean accuracy (then macro F1, then cheaper), and mark the front."""
    results = [
        CandidateResult(
            settings=settings,
            accuracy=_spread(rows, "accuracy"),
            recall_macro=_spread(rows, "recall_macro"),
            f1_macro=_spread(rows, "f1_macro"),
            fit_s=statistics.fmean(row["seconds"] for row in rows),
            cost=costs[settings.network],
        )
        for settings, rows in zip(candidates, figures, strict=True)
    ]
    results.sort(key=lambda r: (-r.accuracy.mean, -r.f1_macro.mean, r.cost.latency_ms))
    front = pareto_front([(r.accuracy.mean, r.cost.latency_ms) for r in results])
    best = results[0].accuracy
    floor = best.mean - best.std / len(best.folds) ** 0.5
    return tuple(
        result.model_copy(
            update={"front": place in front, "near_best": result.accuracy.mean >= floor}
        )
        for place, result in enumerate(results)
    )


def _spread(rows: Sequence[Mapping[str, float]], name: str) -> Spread:
    values = tuple(row[name] for row in rows)
    return Spread(mean=statistics.fmean(values), std=statistics.stdev(values), folds=values)


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Indices of the (gain, cost) pairs that no other beats: none gains as much for less, or more for as little.

    Equal pairs are on the front together.
    """
    return {
        place
        for place, (gain, cost) in enumerate(points)
        if not any(
            other_gain >= gain and other_cost <= cost and (other_gain, other_cost) != (gain, cost)
            for other_gain, other_cost in points
        )
    }
