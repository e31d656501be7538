"""The layers of the networks as textbooks write them, in NumPy and float64.

Independent of every framework: what Keras, ONNX Runtime and the server answer is held against this.
Sources: I. Goodfellow et al., Deep Learning (2016), sections 9.1 to 9.3 (convolution as the frameworks
mean it, that is cross-correlation, and pooling) and 6.2.2.3 (softmax); K. Cho et al. (2014) for the GRU,
with the reset gate applied after the product, as cuDNN and Keras do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Weights = dict[str, list[Array]]

__all__ = [
    "convolution",
    "dense",
    "gru",
    "max_pooling",
    "relu",
    "run_convolutional",
    "run_recurrent",
    "softmax",
    "weights_of",
]


def convolution(x: Array, kernel: Array, bias: Array) -> Array:
    """Convolve without padding, stride 1.

    ``y[n, i, j, f] = bias[f] + Σ_u Σ_v Σ_c x[n, i + u, j + v, c] · kernel[u, v, c, f]``

    Args:
        x: shape (examples, height, width, channels).
        kernel: shape (rows, columns, channels, filters).
        bias: shape (filters,).
    """
    rows, columns, channels, filters = kernel.shape
    examples, height, width, _ = x.shape
    y = np.empty((examples, height - rows + 1, width - columns + 1, filters))
    y[:] = bias
    for u in range(rows):
        for v in range(columns):
            shifted = x[:, u : u + y.shape[1], v : v + y.shape[2], :]
            for c in range(channels):
                y += shifted[..., c, None] * kernel[u, v, c]
    return y


def max_pooling(x: Array, size: int = 2) -> Array:
    """``y[n, i, j, c] = max of x[n, size·i + u, size·j + v, c] over 0 ≤ u, v < size``; a rest is cut."""
    height, width = x.shape[1] // size, x.shape[2] // size
    corners = [
        x[:, u : size * height : size, v : size * width : size, :]
        for u in range(size)
        for v in range(size)
    ]
    return np.max(corners, axis=0)


def relu(x: Array) -> Array:
    """``max(x, 0)``."""
    return np.maximum(x, 0.0)


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    """``y[n, k] = bias[k] + Σ_j x[n, j] · kernel[j, k]``."""
    return x @ kernel + bias


def softmax(x: Array) -> Array:
    """``exp(x[k]) / Σ_j exp(x[j])``, with the largest value taken off first so that nothing overflows."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``."""
    return 1.0 / (1.0 + np.exp(-x))


def gru(x: Array, kernel: Array, recurrent: Array, bias: Array) -> Array:
    """The last state of a gated recurrent unit that starts at zero.

    ``z = σ(x W_z + b_z + h U_z + c_z)``, ``r`` alike, ``ĥ = tanh(x W_h + b_h + r · (h U_h + c_h))``,
    ``h ← z · h + (1 - z) · ĥ``

    Args:
        x: shape (examples, steps, features).
        kernel: W, shape (features, 3 units), for z, r and h in this order.
        recurrent: U, shape (units, 3 units).
        bias: b and c, shape (2, 3 units).
    """
    state = np.zeros((len(x), recurrent.shape[0]))
    for step in range(x.shape[1]):
        of_input = np.split(dense(x[:, step], kernel, bias[0]), 3, axis=1)
        of_state = np.split(dense(state, recurrent, bias[1]), 3, axis=1)
        update = sigmoid(of_input[0] + of_state[0])
        reset = sigmoid(of_input[1] + of_state[1])
        candidate = np.tanh(of_input[2] + reset * of_state[2])
        state = update * state + (1 - update) * candidate
    return state


def run_convolutional(weights: Weights, x: Array) -> Array:
    """The reference network and its siblings: images (examples, 28, 28, 1) → probabilities."""
    x = max_pooling(relu(convolution(x, *weights["convolution_1"])))
    x = max_pooling(relu(convolution(x, *weights["convolution_2"])))
    x = relu(convolution(x, *weights["convolution_3"]))
    x = relu(dense(x.reshape(len(x), -1), *weights["hidden"]))
    return softmax(dense(x, *weights["classes"]))


def run_recurrent(weights: Weights, x: Array) -> Array:
    """The recurrent network: images (examples, 28, 28, 1) as 28 rows of 28 → probabilities."""
    state = gru(x[..., 0], *weights["recurrent"])
    return softmax(dense(state, *weights["classes"]))


def weights_of(model: Any) -> Weights:
    """The weights of a ``keras.Model`` by layer, in float64."""
    return {
        layer.name: [np.asarray(array, np.float64) for array in layer.get_weights()]
        for layer in model.layers
    }
