"""Training: settings and data in, a trained network and its history out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.interrupt import heed
from harness.models.framework import seeded_keras
from harness.networks import Penalty, build_network

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from harness.models.dataset import Dataset
    from harness.models.framework import KerasObject
    from harness.models.settings import Settings

__all__ = ["Trained", "probabilities", "train_network"]

PREDICTION_BATCH = 256
# Steps that TensorFlow takes before it comes back to Python: a fifth less CPU, the same weights.
STEPS_PER_EXECUTION = 8


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        model: the ``keras.Model``.
        history: one row an epoch: ``epoch``, ``seconds``, ``accuracy``, ``cross_entropy`` (in nats) and
            ``loss`` (the cross-entropy with the penalties); with validation data the same again as
            ``val_…``. Of the training data they are means over the epoch, while the weights move.
        duration_s: wall-clock time of the training alone.
    """

    model: KerasObject
    history: tuple[dict[str, float], ...]
    duration_s: float

    @property
    def parameters(self) -> int:
        """Number of weights, biases included."""
        return int(self.model.count_params())


def train_network(
    settings: Settings,
    train: Dataset,
    validation: Dataset | None = None,
    on_step: Callable[[int, int, str], None] | None = None,
) -> Trained:
    """Train from scratch with Adam on the sparse categorical cross-entropy.

    The same settings and data give the same weights on the same machine.

    Args:
        settings: the hyper-parameters.
        train: the examples learnt from.
        validation: examples watched after each epoch; early stopping needs them.
        on_step: called every few batches with the batches done, the most there can be, and the state
            in words.

    Raises:
        EnvironmentFailedError: TensorFlow is missing.
        UsageError: there is no such network.
    """
    keras = seeded_keras(settings.seed)
    penalty = Penalty(settings.l1, settings.l2)
    model = build_network(keras, settings.network, len(train.classes), penalty)
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy")],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    steps = -(-len(train.y) // settings.batch_size)
    clock = _Clock(settings.epochs, steps, on_step)
    callbacks = [
        keras.callbacks.LambdaCallback(
            on_epoch_begin=clock.begin, on_train_batch_end=clock.batch, on_epoch_end=clock.end
        )
    ]
    if settings.early_stopping and validation is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_cross_entropy", patience=settings.patience, restore_best_weights=True
            )
        )
    started = time.monotonic()
    model.fit(
        train.x,
        train.y,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        validation_data=None if validation is None else (validation.x, validation.y),
        validation_batch_size=PREDICTION_BATCH,
        callbacks=callbacks,
        verbose=0,
    )
    return Trained(model, tuple(clock.rows), time.monotonic() - started)


def probabilities(model: KerasObject, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Keras' own answers, float32 of shape (examples, classes)."""
    answers: npt.NDArray[np.float32] = model.predict(x, batch_size=PREDICTION_BATCH, verbose=0)
    return answers


class _Clock:
    """Notes each epoch down and passes progress on."""

    def __init__(
        self, epochs: int, steps: int, on_step: Callable[[int, int, str], None] | None
    ) -> None:
        self.epochs = epochs
        self.steps = steps
        self.on_step = on_step
        self.rows: list[dict[str, float]] = []
        self.started = 0.0

    def begin(self, _epoch: int, _logs: dict[str, float] | None = None) -> None:
        heed()
        self.started = time.monotonic()

    def batch(self, batch: int, logs: dict[str, float] | None = None) -> None:
        heed()
        if self.on_step:
            epoch = len(self.rows)
            state = f"epoch {epoch + 1}/{self.epochs}"
            if logs and "accuracy" in logs:
                state += f", accuracy {logs['accuracy']:.3f}"
            self.on_step(epoch * self.steps + batch + 1, self.epochs * self.steps, state)

    def end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        row = {"epoch": epoch + 1, "seconds": round(time.monotonic() - self.started, 4)}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        self.rows.append(row)
