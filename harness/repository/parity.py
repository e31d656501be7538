"""Parity: how far a model's answers are from the reference, computed in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = [
    "LARGEST_DIFFERENCE",
    "Parity",
    "accuracy",
    "answers_of",
    "class_scores",
    "compare_answers",
]

LARGEST_DIFFERENCE = 1e-4  # above it, float32 arithmetic in another order no longer explains it
BATCH = 64


@dataclass(frozen=True)
class Parity:
    """How a model's answers compare with the reference.

    Attributes:
        largest_difference: largest absolute difference over all outputs and examples; ``inf`` where
            one is not finite and the other is, or where whole numbers or strings differ.
        largest_scaled: the same with each difference divided by the right value where that is beyond
            ±1, since a float32 of 1000 is known to 0.0001 at best.
        tensor: the output that the latter occurred in.
        examples: how many examples were compared.
    """

    largest_difference: float
    largest_scaled: float
    tensor: str
    examples: int

    @property
    def holds(self) -> bool:
        """Whether the answers are the reference's, within :data:`LARGEST_DIFFERENCE`."""
        return self.largest_scaled <= LARGEST_DIFFERENCE


def answers_of(
    run: Callable[[dict[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]],
    inputs: dict[str, npt.NDArray[Any]],
    *,
    batched: bool,
    where: str,
) -> dict[str, npt.NDArray[Any]]:
    """Compute a model's answers to all examples.

    Args:
        run: executes the model once: from arrays to arrays by tensor name.
        inputs: by tensor name, shape (examples, *dims).
        batched: the model has a batch dimension, so that examples go together; else one by one.
        where: names the model in errors.

    Returns:
        By tensor name, shape (examples, *dims).

    Raises:
        UsageError: the model does not take them, or answers of different shapes cannot be stacked.
    """
    examples = len(next(iter(inputs.values())))
    if batched:
        parts = [
            run({name: array[start : start + BATCH] for name, array in inputs.items()})
            for start in range(0, examples, BATCH)
        ]
    else:
        singles = [
            run({name: np.asarray(array[place]) for name, array in inputs.items()})
            for place in range(examples)
        ]
        parts = [{name: array[np.newaxis] for name, array in part.items()} for part in singles]
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as error:
        raise UsageError(
            "the answers to different examples have different shapes, so they make no reference",
            where=where,
            remedy="Give examples of one shape",
        ) from error


def compare_answers(
    reference: dict[str, npt.NDArray[Any]], answers: dict[str, npt.NDArray[Any]], *, where: str
) -> Parity:
    """Compare answers with the reference's.

    Args:
        reference: right answers by tensor name, shape (examples, *dims).
        answers: a model's answers, alike.
        where: names the model in errors.

    Raises:
        UsageError: an output of the reference is missing or has another shape.
    """
    largest, worst, tensor, examples = 0.0, 0.0, "", 0
    for name, right in reference.items():
        if name not in answers or answers[name].shape != right.shape:
            got = f"shape {answers[name].shape}" if name in answers else "no such output"
            raise UsageError(
                f"the output {name} should have shape {right.shape}; the model has {got}",
                where=where,
                remedy="Train or export the model again, so that model and reference fit",
            )
        difference, scaled = _largest_difference(right, answers[name])
        largest, examples = max(largest, difference), max(examples, len(right))
        if not tensor or scaled > worst:
            worst, tensor = scaled, name
    return Parity(largest, worst, tensor, examples)


def _largest_difference(right: npt.NDArray[Any], answers: npt.NDArray[Any]) -> tuple[float, float]:
    """Absolute, and divided by the right value where that is beyond ±1."""
    if right.size == 0:
        return 0.0, 0.0
    if right.dtype.kind != "f" or answers.dtype.kind != "f":
        worst = 0.0 if np.array_equal(right, answers) else float("inf")
        return worst, worst
    wanted, got = right.astype(np.float64), answers.astype(np.float64)
    same = (wanted == got) | (np.isnan(wanted) & np.isnan(got))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(wanted - got))
        scaled = difference / np.maximum(1.0, np.where(np.isfinite(wanted), np.abs(wanted), 1.0))
    difference[np.isnan(difference)] = np.inf
    scaled[np.isnan(scaled)] = np.inf
    return float(difference.max()), float(scaled.max())


def class_scores(answers: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
    """A classifier's scores: its only output of shape (examples, classes); ``None`` if it is none."""
    scores = [array for array in answers.values() if array.ndim == 2 and array.dtype.kind == "f"]
    return scores[0] if len(scores) == 1 and scores[0].shape[1] > 1 else None


def accuracy(
    answers: dict[str, npt.NDArray[Any]], labels: npt.NDArray[np.int64] | None
) -> float | None:
    """Share of examples whose most likely class is the true one; ``None`` where that is no question."""
    scores = class_scores(answers)
    if labels is None or scores is None:
        return None
    return float((scores.argmax(axis=1) == labels).mean())
