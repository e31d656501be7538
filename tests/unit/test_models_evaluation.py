from __future__ import annotations

import math

import numpy as np
import pytest

from harness.models.evaluation import evaluate

NAMES = ("a", "b", "c")


def one_hot(predicted: list[int]) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[predicted] * 0.8 + np.float32(0.2 / 3)


def test_a_case_worked_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    result = evaluate(one_hot([0, 0, 1, 1, 1, 0]), labels, NAMES)
    assert result.accuracy == pytest.approx(4 / 6)
    assert result.recall_macro == pytest.approx((2 / 3 + 1 + 0) / 3)
    # F1: a = 2·2/(2·2+1+1), b = 2·2/(2·2+1+0), c = 0.
    assert result.f1_macro == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)
    assert result.confusion == ((2, 1, 0), (0, 2, 0), (1, 0, 0))
    assert [c.precision for c in result.classes] == pytest.approx([2 / 3, 2 / 3, 0])
    assert [c.examples for c in result.classes] == [3, 2, 1]
    right, wrong = 0.8 + 0.2 / 3, 0.2 / 3
    assert result.loss == pytest.approx(-(4 * math.log(right) + 2 * math.log(wrong)) / 6)


def test_a_class_without_examples_counts_as_not_recalled() -> None:
    result = evaluate(one_hot([0, 1]), np.array([0, 1]), NAMES)
    assert result.accuracy == 1.0
    assert result.recall_macro == pytest.approx(2 / 3)
    assert len(result.confusion) == 3


def test_a_probability_of_zero_does_not_make_the_loss_infinite() -> None:
    result = evaluate(np.array([[1, 0, 0]], np.float32), np.array([1]), NAMES)
    assert result.loss == pytest.approx(-math.log(1e-7))
