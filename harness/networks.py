"""The networks: each is one function here, and :data:`NETWORKS` holds them by their names.

A function gets Keras, the number of classes and the penalty on its kernels, and gives the layers from float32
images of shape (batch, 28, 28, 1) to class probabilities of shape (batch, classes). Nothing here imports
Keras, so that commands that only name a network need not have it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NETWORKS", "REFERENCE_PARAMETERS", "SHAPE", "Penalty", "build_network", "check_network"]

# Keras ships no types.
KerasModule: TypeAlias = Any
KerasObject: TypeAlias = Any
SHAPE = (28, 28, 1)
# Of the reference network with ten classes.
REFERENCE_PARAMETERS = 93_322


@dataclass(frozen=True)
class Penalty:
    """Weights of the L1 and L2 penalties on every kernel."""

    l1: float = 0.0
    l2: float = 0.0


def cnn(keras: KerasModule, classes: int, penalty: KerasObject) -> list[KerasObject]:
    """The reference network: three convolutions, two poolings, two dense layers."""
    return _convolutional(keras, classes, penalty, filters=(32, 64, 64), units=64)


def cnn_small(keras: KerasModule, classes: int, penalty: KerasObject) -> list[KerasObject]:
    """The same with a quarter of the filters: a sixteenth of the arithmetic."""
    return _convolutional(keras, classes, penalty, filters=(8, 16, 16), units=32)


def cnn_wide(keras: KerasModule, classes: int, penalty: KerasObject) -> list[KerasObject]:
    """The same with twice the filters: four times the arithmetic."""
    return _convolutional(keras, classes, penalty, filters=(64, 128, 128), units=128)


def gru(keras: KerasModule, classes: int, penalty: KerasObject) -> list[KerasObject]:
    """A recurrent network that reads the image's 28 rows as a sequence."""
    layers = keras.layers
    return [
        layers.Reshape(SHAPE[:2], name="rows"),
        layers.GRU(64, kernel_regularizer=penalty, name="recurrent"),
        layers.Dense(classes, activation="softmax", kernel_regularizer=penalty, name="classes"),
    ]


def _convolutional(
    keras: KerasModule,
    classes: int,
    penalty: KerasObject,
    *,
    filters: tuple[int, int, int],
    units: int,
) -> list[KerasObject]:
    layers = keras.layers

    def convolution(place: int) -> KerasObject:
        return layers.Conv2D(
            filters[place],
            3,
            activation="relu",
            kernel_regularizer=penalty,
            name=f"convolution_{place + 1}",
        )

    return [
        convolution(0),
        layers.MaxPooling2D(2, name="pooling_1"),
        convolution(1),
        layers.MaxPooling2D(2, name="pooling_2"),
        convolution(2),
        layers.Flatten(name="flatten"),
        layers.Dense(units, activation="relu", kernel_regularizer=penalty, name="hidden"),
        layers.Dense(classes, activation="softmax", kernel_regularizer=penalty, name="classes"),
    ]


NETWORKS: dict[str, Callable[[KerasModule, int, KerasObject], list[KerasObject]]] = {
    layers.__name__: layers for layers in (cnn, cnn_small, cnn_wide, gru)
}


def check_network(name: str) -> None:
    """Refuse a network that is not there.

    Raises:
        UsageError: so it is, with the nearest name.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        remedy = f"The nearest is {near[0]}" if near else f"Known are {', '.join(NETWORKS)}"
        raise UsageError("no such network", where=f"--network {name}", remedy=remedy)


def build_network(keras: KerasModule, name: str, classes: int, penalty: Penalty) -> KerasObject:
    """Build the uncompiled network ``name`` with freshly drawn weights.

    Raises:
        UsageError: there is no such network.
        AssertionError: the reference network does not have the parameters it is known by.
    """
    check_network(name)
    regularizer = None
    if penalty.l1 or penalty.l2:
        regularizer = keras.regularizers.L1L2(l1=penalty.l1, l2=penalty.l2)
    layers = NETWORKS[name](keras, classes, regularizer)
    model = keras.Sequential([keras.Input(SHAPE, name="image"), *layers], name=name)
    if name == "cnn" and classes == 10 and model.count_params() != REFERENCE_PARAMETERS:
        raise AssertionError(
            f"the reference network has {model.count_params()} parameters,"
            f" not {REFERENCE_PARAMETERS}"
        )
    return model
