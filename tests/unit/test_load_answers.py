from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.load.answers import (
    COMPARE_EVERY,
    FEW_VALUES,
    KNOWN_ANSWERS,
    Answer,
    Checker,
    Expectation,
    ExpectedOutput,
    Output,
    decode,
    wrong,
)
from harness.load.outcomes import FailedRequestError
from harness.records import Outcome

PROBABILITIES = np.array([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]], np.float32)


def expected(values: np.ndarray | None = PROBABILITIES, **changes: object) -> Expectation:
    fields = {"name": "probabilities", "datatype": "FP32", "shape": (2, 3), "values": values}
    return Expectation("cnn", (ExpectedOutput(**{**fields, **changes}),))


def answer(values: np.ndarray = PROBABILITIES, **changes: object) -> Answer:
    fields = {"name": "probabilities", "datatype": "FP32", "shape": values.shape}
    output = Output(**{**fields, "data": values.tobytes(), **changes})
    return Answer("cnn", (output,))


def reason(given: Answer, expectation: Expectation | None = None, *, compare: bool = True) -> str:
    return wrong(given, expectation or expected(), compare=compare) or "right"


def test_the_reference_itself_is_right() -> None:
    assert reason(answer()) == "right"
    assert reason(answer(), expected(None)) == "right"


def test_what_is_a_little_away_is_right_and_what_is_further_is_not() -> None:
    assert reason(answer(PROBABILITIES + np.float32(5e-5))) == "right"
    off = answer(PROBABILITIES + np.float32(1e-2))
    assert "away from the reference" in reason(off)
    assert reason(off, compare=False) == "right", "the classes are the same"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Answer("other", answer().outputs), "model 'other' answered instead of 'cnn'"),
        (Answer("cnn", ()), "outputs none instead of probabilities"),
        (Answer("cnn", answer().outputs * 2), "outputs probabilities instead of"),
        (answer(name="logits"), "outputs logits instead of probabilities"),
        (answer(datatype="FP64"), "datatype FP64 instead of FP32"),
        (answer(shape=(3, 2)), "shape [3, 2] instead of [2, 3]"),
        (answer(shape=(6,)), "shape [6] instead of [2, 3]"),
        (answer(data=b""), "no bytes"),
        (answer(data=b"\0" * 20), "20 bytes instead of 24"),
        (answer(PROBABILITIES * np.float32(np.nan)), "not finite"),
        (answer(PROBABILITIES + np.float32(np.inf)), "not finite"),
        (answer(PROBABILITIES[::-1]), "example 0: most likely class 0, which is wrong"),
        (
            answer(np.array([[0.1, 0.7, 0.2], [0.1, 0.3, 0.6]], np.float32)),
            "example 1: most likely class 2, which is wrong",
        ),
    ],
)
def test_what_is_wrong_is_said_even_without_comparing(given: Answer, words: str) -> None:
    assert words in reason(given, compare=False)


def test_an_output_of_no_bytes_is_wrong_without_a_reference_too() -> None:
    """What a Python backend with the wrong NumPy answers, at status 200."""
    nothing = Output("probabilities", "FP32", (2, 3), b"")
    assert "no bytes" in reason(Answer("cnn", (nothing,)), expected(None))
    empty = Output("probabilities", "FP32", (0, 3), b"")
    assert "shape" in reason(Answer("cnn", (empty,)), expected(None, shape=(-1, 3)))


def test_classes_that_the_reference_cannot_tell_apart_are_both_right() -> None:
    near = np.array([[0.4, 0.40001, 0.2]], np.float32)
    tie = expected(near, shape=(1, 3))
    assert reason(answer(near[:, [1, 0, 2]]), tie) == "right"
    assert "class 2" in reason(answer(near[:, [0, 2, 1]]), tie)


def test_a_free_dimension_takes_any_size_but_none() -> None:
    free = expected(None, shape=(2, -1))
    assert reason(answer(), free) == "right"
    assert "shape" in reason(answer(PROBABILITIES[:1]), free)


def test_what_is_no_floating_point_number_is_compared_exactly_each_time() -> None:
    labels = np.array([[1], [0]], np.int64)
    wanted = expected(labels, datatype="INT64", shape=(2, 1))
    right = answer(labels, datatype="INT64")
    assert reason(right, wanted, compare=False) == "right"
    assert reason(answer(1 - labels, datatype="INT64"), wanted, compare=False) != "right"


def serialised(*strings: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(s)) + s for s in strings)


def test_strings() -> None:
    words = np.array([[b"cat"], [b"dog"]], "S")
    wanted = expected(words, datatype="BYTES", shape=(2, 1))

    def said(data: bytes) -> str:
        return reason(answer(shape=(2, 1), datatype="BYTES", data=data), wanted)

    assert said(serialised(b"cat", b"dog")) == "right"
    assert "differs" in said(serialised(b"cat", b"cow"))
    assert "1 strings instead of 2" in said(serialised(b"cat"))
    assert "beyond" in said(serialised(b"cat", b"dog")[:-1])


def test_brain_floats_are_widened() -> None:
    values = np.array([1.5, -2.0, 0.0], np.float32)
    data = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    np.testing.assert_array_equal(decode("BF16", (3,), data), values)


@given(
    values=arrays(np.float32, (2, 3), elements=st.floats(-100, 100, width=32)),
    row=st.integers(0, 1),
    column=st.integers(0, 2),
    sign=st.sampled_from([-1, 1]),
)
def test_any_value_beyond_the_tolerance_is_found(
    values: np.ndarray, row: int, column: int, sign: int
) -> None:
    off = values.copy()
    off[row, column] += np.float32(sign * (2e-4 + 2e-4 * abs(values[row, column])))
    assert reason(answer(values), expected(values)) == "right"
    assert reason(answer(off), expected(values)) != "right"


def checker(count: int = 1, values: np.ndarray | None = PROBABILITIES) -> Checker:
    def parse(raw: bytes) -> Answer:
        if raw == b"broken":
            raise FailedRequestError(Outcome.OTHER, "malformed")
        return answer(data=raw)

    return Checker([expected(values)] * count, parse)


def test_a_known_answer_is_right_at_once() -> None:
    check = checker()
    raw = PROBABILITIES.tobytes()
    assert check.check(0, raw) == (Outcome.OK, True, None)
    assert check.known[0] == (raw,)
    assert check.check(0, bytes(raw)) == (Outcome.OK, True, None)


def test_a_wrong_answer_is_never_known() -> None:
    check = checker()
    for _ in range(3):
        outcome, compared, why = check.check(0, b"")
        assert (outcome, compared) == (Outcome.WRONG_ANSWER, False)
        assert why is not None
        assert "no bytes" in why
    assert check.check(0, b"broken")[0] is Outcome.OTHER
    assert check.known[0] == ()


def test_what_is_right_for_one_request_is_not_known_for_another() -> None:
    check = checker(2)
    check.check(0, PROBABILITIES.tobytes())
    assert check.known == [(PROBABILITIES.tobytes(),), ()]


def test_large_answers_that_vary_are_compared_one_in_sixteen() -> None:
    """Beyond those that are remembered; each differs from the reference in the last digits."""
    values = np.zeros((2, FEW_VALUES), np.float32)
    wanted = Expectation("cnn", (ExpectedOutput("y", "FP32", values.shape, values),))
    check = Checker([wanted], lambda raw: Answer("cnn", (Output("y", "FP32", values.shape, raw),)))
    rng = np.random.default_rng(1)
    raws = [
        rng.uniform(-5e-5, 5e-5, values.shape).astype(np.float32)
        for _ in range(KNOWN_ANSWERS + 160)
    ]
    for raw in raws:
        raw[:, 0] = 1e-4 / 2  # the class is not what this is about
    results = [check.check(0, raw.tobytes()) for raw in raws]
    assert all(outcome is Outcome.OK for outcome, _, _ in results)
    compared = [compared for _, compared, _ in results]
    assert all(compared[:KNOWN_ANSWERS])
    assert sum(compared[KNOWN_ANSWERS:]) == 160 // COMPARE_EVERY
    assert len(check.known[0]) == KNOWN_ANSWERS


def test_small_answers_that_vary_are_all_compared() -> None:
    check = checker()
    noise = np.random.default_rng(1).uniform(-5e-5, 5e-5, (100, 2, 3))
    results = [check.check(0, (PROBABILITIES + n).astype(np.float32).tobytes()) for n in noise]
    assert all(compared for _, compared, _ in results)


def test_the_last_response_of_a_connection_is_not_remembered() -> None:
    class Last(bytes):
        pass

    check = checker()
    assert check.check(0, Last(PROBABILITIES.tobytes())) == (Outcome.OK, True, None)
    assert check.known[0] == ()


def test_without_a_reference_nothing_counts_as_compared() -> None:
    check = checker(values=None)
    raw = PROBABILITIES.tobytes()
    assert check.check(0, raw) == (Outcome.OK, False, None)
    assert check.check(0, raw) == (Outcome.OK, False, None)
