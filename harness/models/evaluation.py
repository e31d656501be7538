"""How good a network is: accuracy, macro recall, macro F1, per-class figures, confusion matrix."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ClassFigures", "Evaluation", "evaluate"]

# Keras' own floor of a probability under the logarithm.
SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class ClassFigures:
    """One class: precision, recall and F1 in [0, 1], and how many examples truly belong to it."""

    name: str
    precision: float
    recall: float
    f1: float
    examples: int


@dataclass(frozen=True)
class Evaluation:
    """A network held against labelled examples.

    Attributes:
        accuracy: share of the examples whose most likely class is the true one.
        recall_macro, f1_macro: plain means over the classes, so that rare ones count as much.
        loss: mean cross-entropy in nats, penalties left out.
        confusion: examples by true class (row) and predicted class (column).
    """

    accuracy: float
    recall_macro: float
    f1_macro: float
    loss: float
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def evaluate(
    answers: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], names: tuple[str, ...]
) -> Evaluation:
    """Hold ``answers`` against ``labels``, by scikit-learn's definitions.

    A class that is never predicted has precision 0, one without examples recall 0.

    Args:
        answers: probabilities, shape (examples, classes).
        labels: true classes, shape (examples,).
        names: the classes' names.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted = answers.argmax(axis=1)
    numbers = np.arange(len(names))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=0.0
    )
    confusion = confusion_matrix(labels, predicted, labels=numbers)
    likelihood = answers[np.arange(len(labels)), labels].astype(np.float64)
    return Evaluation(
        accuracy=float(np.mean(predicted == labels)),
        recall_macro=float(recall.mean()),
        f1_macro=float(f1.mean()),
        loss=float(-np.log(np.maximum(likelihood, SMALLEST_PROBABILITY)).mean()),
        classes=tuple(
            ClassFigures(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(names)
        ),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )
