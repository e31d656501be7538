"""Is an answer right? Everything here is a function of the answer's parts and of what was expected.

A status of 200 proves nothing: a Python backend with the wrong NumPy answers 200 with outputs of no
bytes at all. So every answer is held against the model's name, its outputs' names, shapes and sizes,
finite values, and the most likely class of each example; and against all reference values where those
are few, or at least one answer in :data:`COMPARE_EVERY`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.load.outcomes import FailedRequestError
from harness.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

__all__ = [
    "COMPARE_EVERY",
    "Answer",
    "Checker",
    "Expectation",
    "ExpectedOutput",
    "Output",
    "decode",
    "numpy_type",
    "wrong",
]

COMPARE_EVERY = 16
# Answers of up to so many values are compared each time.
FEW_VALUES = 1024
# Right answers kept of each request, in bytes and in number: an answer that is equal to a right one,
# byte for byte, is right, and that costs 0.1 µs to find out instead of 10.
KNOWN_ANSWERS = 8
KNOWN_BYTES = 32 * 2**20

NUMPY_TYPES = {
    "BOOL": np.dtype(np.bool_),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    **{f"INT{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True, slots=True)
class Output:
    """One output tensor of an answer, as it came.

    Attributes:
        datatype: the protocol's name, such as ``FP32``.
        data: the tensor's bytes (KServe v2, binary tensor data extension).
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one request."""

    model: str
    outputs: tuple[Output, ...]


@dataclass(frozen=True)
class ExpectedOutput:
    """What one output must be.

    Attributes:
        datatype: the protocol's name.
        shape: with the batch axis where the model is batched; -1 where any size is right.
        values: the right values, of that shape; ``None`` where they are not known.
        tolerance: how far a floating-point value may lie from the right one, absolutely and relatively.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | None = None
    tolerance: float = 1e-4

    @cached_property
    def likely_enough(self) -> npt.NDArray[np.bool_] | None:
        """Which classes may be the most likely one, shape (examples, classes).

        ``None`` where the output is no vector of at least two classes. Usually it is one class an
        example; more where the reference has them closer together than the tolerance.
        """
        values = self.values
        if values is None or not np.issubdtype(values.dtype, np.floating):
            return None
        if not values.size or values.ndim not in (1, 2) or values.shape[-1] < 2:
            return None
        rows = np.atleast_2d(values).astype(np.float64)
        margin = self.tolerance * (1 + np.abs(rows))
        top = (rows - margin).max(axis=1, keepdims=True)
        likely: npt.NDArray[np.bool_] = rows + margin >= top
        return likely


@dataclass(frozen=True)
class Expectation:
    """What the answer to one request must be."""

    model: str
    outputs: tuple[ExpectedOutput, ...]

    @property
    def comparable(self) -> bool:
        """The right values of every output are known."""
        return all(output.values is not None for output in self.outputs)

    @property
    def few(self) -> bool:
        """The known values are so few that comparing them costs nothing to speak of."""
        known = (output.values for output in self.outputs if output.values is not None)
        return sum(values.size for values in known) <= FEW_VALUES


def numpy_type(datatype: str) -> np.dtype[Any] | None:
    """The NumPy type of a datatype of fixed size; ``None`` for ``BYTES`` and what is not known.

    ``BF16`` is none of NumPy's; :func:`decode` widens it to ``float32``.
    """
    return NUMPY_TYPES.get(datatype)


def decode(datatype: str, shape: tuple[int, ...], data: bytes) -> npt.NDArray[Any]:
    """Turn a tensor's bytes into an array.

    Raises:
        ValueError: the bytes do not make such a tensor; the message says why.
    """
    elements = math.prod(shape)
    if datatype == "BYTES":
        return np.array(_strings(data, elements), dtype=object).reshape(shape)
    kind = np.dtype(np.uint16) if datatype == "BF16" else numpy_type(datatype)
    if kind is None:
        raise ValueError(f"unknown datatype {datatype}")
    if len(data) != elements * kind.itemsize:
        raise ValueError(f"{len(data)} bytes instead of {elements * kind.itemsize}")
    values = np.frombuffer(data, kind)
    if datatype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(shape)


def _strings(data: bytes, count: int) -> list[bytes]:
    """Split a ``BYTES`` tensor: each element is its length (4 bytes, little-endian) and itself."""
    strings = []
    place = 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "little")
        place += 4 + length
        if place > len(data):
            raise ValueError("a string reaches beyond the tensor's end")
        strings.append(data[place - length : place])
    if len(strings) != count:
        raise ValueError(f"{len(strings)} strings instead of {count}")
    return strings


def wrong(answer: Answer, expectation: Expectation, *, compare: bool) -> str | None:
    """Say what is wrong with an answer; ``None`` when nothing is.

    Args:
        answer: what came.
        expectation: what should have come.
        compare: hold all values against the right ones, where those are known.
    """
    if answer.model != expectation.model:
        return f"the model {answer.model!r} answered instead of {expectation.model!r}"
    outputs = {output.name: output for output in answer.outputs}
    names = [expected.name for expected in expectation.outputs]
    if len(outputs) != len(answer.outputs) or outputs.keys() != set(names):
        return f"outputs {', '.join(outputs) or 'none'} instead of {', '.join(names)}"
    for expected in expectation.outputs:
        reason = _wrong_output(outputs[expected.name], expected, compare=compare)
        if reason is not None:
            return f"output {expected.name}: {reason}"
    return None


def _wrong_output(output: Output, expected: ExpectedOutput, *, compare: bool) -> str | None:
    if output.datatype != expected.datatype:
        return f"datatype {output.datatype} instead of {expected.datatype}"
    if output.shape != expected.shape and not _fits(output.shape, expected.shape):
        return f"shape {list(output.shape)} instead of {list(expected.shape)}"
    if not output.data and 0 not in expected.shape:
        return "no bytes"
    try:
        values = decode(output.datatype, output.shape, output.data)
    except ValueError as error:
        return str(error)
    if values.dtype.kind == "f":
        return _wrong_floats(values, expected, compare=compare)
    exact = expected.values is None or np.array_equal(values, expected.values)
    return None if exact else "differs from the reference"


def _wrong_floats(
    values: npt.NDArray[Any], expected: ExpectedOutput, *, compare: bool
) -> str | None:
    if not np.isfinite(values).all():
        return "holds values that are not finite"
    likely = expected.likely_enough
    if likely is not None:
        chosen = np.atleast_2d(values).argmax(axis=1)
        right = likely[np.arange(len(likely)), chosen]
        if not right.all():
            example = int(np.argmin(right))
            return f"example {example}: most likely class {int(chosen[example])}, which is wrong"
    if compare and expected.values is not None:
        distance = np.abs(values.astype(np.float64) - expected.values)
        if not (distance <= expected.tolerance * (1 + np.abs(expected.values))).all():
            return f"up to {float(distance.max()):.3g} away from the reference"
    return None


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether a shape is one that is expected, where -1 stands for any size above 0."""
    return len(shape) == len(expected) and all(
        size == wanted or (wanted == -1 and size > 0)
        for size, wanted in zip(shape, expected, strict=True)
    )


class Checker:
    """Checks the answers to a pool of requests, and remembers the right ones.

    Args:
        expectations: by request.
        parse: turns what came over the wire into an :class:`Answer`, or raises
            :class:`FailedRequestError`.

    Attributes:
        known: by request, answers that were found right, as they came over the wire, all values
            compared where that is possible.
    """

    def __init__(self, expectations: Sequence[Expectation], parse: Callable[[Any], Answer]) -> None:
        self.known: list[tuple[bytes, ...]] = [() for _ in expectations]
        self.comparable = all(expectation.comparable for expectation in expectations)
        self._expectations = expectations
        self._few = all(expectation.few for expectation in expectations)
        self._parse = parse
        self._room = KNOWN_BYTES
        self._seen = 0

    def check(self, index: int, raw: Any) -> tuple[Outcome, bool, str | None]:  # noqa: ANN401 - the sender's own
        """Check an answer to request ``index``.

        Returns:
            Its outcome, whether all values were compared, and what is wrong in words.
        """
        known = self.known[index]
        if raw in known:
            return Outcome.OK, self.comparable, None
        self._seen += 1
        # A subclass of bytes is a response that is not like the next one.
        keep = type(raw) is bytes and len(known) < KNOWN_ANSWERS and len(raw) <= self._room
        compare = keep or self._few or self._seen % COMPARE_EVERY == 1
        try:
            reason = wrong(self._parse(raw), self._expectations[index], compare=compare)
        except FailedRequestError as failed:
            return failed.outcome, False, failed.reason
        if reason is not None:
            return Outcome.WRONG_ANSWER, False, reason
        if keep:
            self.known[index] = (*known, raw)
            self._room -= len(raw)
        return Outcome.OK, compare and self.comparable, None
