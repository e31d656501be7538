"""The textbook formulas against cases worked by hand and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import signal, special

from tests import formulas


def test_a_convolution_worked_by_hand() -> None:
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    kernel = np.array([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
    # Not flipped: x[i, j] - x[i + 1, j + 1] is -4 everywhere, plus the bias.
    assert formulas.convolution(x, kernel, np.array([0.5])).ravel().tolist() == [-3.5] * 4


def test_convolution_is_the_sum_of_scipy_s_correlations_over_the_channels() -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 7, 6, 3)), rng.normal(size=(3, 2, 3, 4))
    bias = rng.normal(size=4)
    expected = np.stack(
        [
            [
                bias[f]
                + sum(
                    signal.correlate(image[..., c], kernel[..., c, f], mode="valid")
                    for c in range(3)
                )
                for f in range(4)
            ]
            for image in x
        ]
    ).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(formulas.convolution(x, kernel, bias), expected, atol=1e-12)


def test_pooling_takes_the_largest_and_cuts_the_rest() -> None:
    x = np.array([[1, 5, 9], [7, 2, 9], [9, 9, 9]], float).reshape(1, 3, 3, 1)
    assert formulas.max_pooling(x).ravel().tolist() == [7.0]


def test_softmax_is_scipy_s_and_never_overflows() -> None:
    x = np.array([[1.0, 2.0, 3.0], [1e4, 0.0, -1e4]])
    np.testing.assert_allclose(formulas.softmax(x), special.softmax(x, axis=1), atol=1e-15)


def test_relu_cuts_below_zero() -> None:
    assert formulas.relu(np.array([-1.0, 0.0, 2.0])).tolist() == [0.0, 0.0, 2.0]


def test_one_step_of_a_gru_worked_by_hand() -> None:
    # One feature, one unit. From state 0 the recurrent product is its bias alone.
    kernel, recurrent = np.array([[0.2, -0.4, 0.6]]), np.array([[9.0, 9.0, 9.0]])
    bias = np.array([[0.1, 0.0, -0.1], [0.0, 0.3, 0.5]])
    z = 1 / (1 + math.exp(-(0.2 * 2 + 0.1)))
    r = 1 / (1 + math.exp(-(-0.4 * 2 + 0.3)))
    expected = (1 - z) * math.tanh(0.6 * 2 - 0.1 + r * 0.5)
    state = formulas.gru(np.array([[[2.0]]]), kernel, recurrent, bias)
    assert state[0, 0] == pytest.approx(expected, abs=1e-15)
