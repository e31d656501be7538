"""Parity, accuracy, and what a reduced precision loses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.repository.graph import OnnxSession, read_graph
from harness.repository.parity import accuracy, answers_of, compare_answers
from harness.repository.precision import judge, write_precision
from tests import onnx_models

if TYPE_CHECKING:
    from pathlib import Path

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("right", "answer", "largest", "scaled"),
    [
        ([0.5], [0.5], 0, 0),
        ([0.5], [0.75], 0.25, 0.25),
        ([1000.0], [1000.05], 0.05, 5e-5),
        ([-1000.0], [-1001.0], 1, 1e-3),
        ([NAN, INF, -INF], [NAN, INF, -INF], 0, 0),
        ([NAN], [0.0], INF, INF),
        ([0.0], [NAN], INF, INF),
        ([INF], [0.0], INF, INF),
        ([1, 2], [1, 2], 0, 0),
        ([1, 2], [1, 3], INF, INF),
        ([b"a"], [b"a"], 0, 0),
        ([b"a"], [b"b"], INF, INF),
        ([True], [False], INF, INF),
    ],
)
def test_the_largest_difference(
    right: list[Any], answer: list[Any], largest: float, scaled: float
) -> None:
    found = compare_answers({"y": np.array(right)}, {"y": np.array(answer)}, where="m")
    assert found.largest_difference == pytest.approx(largest, rel=1e-6)
    assert found.largest_scaled == pytest.approx(scaled, rel=1e-6)
    assert found.holds == (scaled <= 1e-4)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_difference_never_looks_smaller_than_relative_to_the_right_value(
    right: float, answer: float
) -> None:
    found = compare_answers({"y": np.array([right])}, {"y": np.array([answer])}, where="m")
    assert math.isclose(found.largest_difference, abs(right - answer))
    assert found.largest_scaled <= found.largest_difference
    assert found.largest_scaled >= found.largest_difference / max(1, abs(right)) * (1 - 1e-9)


def test_the_worst_output_is_named() -> None:
    right = {"a": np.zeros((3, 2)), "b": np.zeros(3)}
    answers = {"a": np.full((3, 2), 0.1), "b": np.full(3, 0.2)}
    found = compare_answers(right, answers, where="m")
    assert (found.tensor, found.largest_difference, found.examples) == ("b", 0.2, 3)


@pytest.mark.parametrize("answers", [{}, {"y": np.zeros((3, 3))}])
def test_another_shape_is_no_answer(answers: dict[str, np.ndarray]) -> None:
    with pytest.raises(UsageError, match="the output y should have shape"):
        compare_answers({"y": np.zeros((3, 2))}, answers, where="m")


def test_accuracy_is_the_share_of_right_classes() -> None:
    scores = {"y": np.eye(3, dtype=np.float32)}
    assert accuracy(scores, np.array([0, 1, 0])) == pytest.approx(2 / 3)
    assert accuracy(scores, None) is None
    assert accuracy({"y": np.zeros((3, 1), np.float32)}, np.array([0, 1, 0])) is None


def scores_of(classes: list[int], count: int = 4) -> dict[str, np.ndarray]:
    return {"y": np.eye(count, dtype=np.float32)[classes]}


def test_the_loss_is_of_accuracy_agreement_or_relative_error() -> None:
    """Of four examples the first two may have calibrated; the others are judged."""
    right, worse = scores_of([3, 3, 0, 1]), scores_of([0, 0, 0, 2])
    known = judge(right, worse, np.array([0, 0, 0, 1]))
    assert (known.measure, known.loss, known.examples) == ("accuracy", 0.5, 2)
    assert judge(right, worse, np.array([0, 0, 0, 2])).loss == -0.5
    unknown = judge(right, worse, None)
    assert (unknown.measure, unknown.loss, unknown.examples) == ("agreement", 0.5, 2)
    numbers = judge({"y": np.array([9.0, 9, 3, 4])}, {"y": np.array([0.0, 0, 3, 3])}, None)
    assert (numbers.measure, numbers.examples) == ("error", 2)
    assert numbers.loss == pytest.approx(0.2)
    broken = judge({"y": np.array([1.0, 1])}, {"y": np.array([1.0, NAN])}, None)
    assert broken.loss == INF


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_variant_is_a_model_of_its_own_that_answers_nearly_alike(
    tmp_path: Path, precision: Any
) -> None:
    source = onnx_models.linear(tmp_path / "m.onnx")
    x = np.random.default_rng(1).uniform(size=(40, 8)).astype(np.float32)
    target = tmp_path / "variant.onnx"
    write_precision(source, target, precision, {"x": x}, batched=True)
    right = answers_of(OnnxSession(source).run, {"x": x}, batched=True, where="m")["y"]
    answers = answers_of(OnnxSession(target).run, {"x": x}, batched=True, where="m")["y"]
    worst = np.abs(answers - right).max()
    assert 0 < worst < 0.1
    before, after = read_graph(source), read_graph(target)
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "m.onnx",
        "variant.onnx",
    ]


def test_examples_go_one_by_one_without_a_batch_dimension(tmp_path: Path) -> None:
    session = OnnxSession(onnx_models.unbatched(tmp_path / "m.onnx"))
    matrix = np.random.default_rng(1).normal(size=(6, 4, 5)).astype(np.float32)
    answers = answers_of(session.run, {"matrix": matrix}, batched=False, where="m")
    assert np.array_equal(answers["largest"], matrix.max(axis=2))


@pytest.mark.parametrize(("batch", "batched"), [("batch", True), (1, False)])
def test_a_convolution_is_calibrated_with_and_without_a_batch_dimension(
    tmp_path: Path, batch: str | int, *, batched: bool
) -> None:
    source = onnx_models.convolution(tmp_path / "m.onnx", batch=batch)
    shape = (20, 1, 6, 6) if batched else (20, 1, 1, 6, 6)
    inputs = {"x": np.random.default_rng(1).uniform(size=shape).astype(np.float32)}
    target = tmp_path / "int8.onnx"
    write_precision(source, target, "int8", inputs, batched=batched)
    right = answers_of(OnnxSession(source).run, inputs, batched=batched, where="m")["y"]
    answers = answers_of(OnnxSession(target).run, inputs, batched=batched, where="m")["y"]
    assert 0 < np.abs(answers - right).max() < 0.2
