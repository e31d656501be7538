"""Which inputs are sent, and what is to come back: from the reference file, or from the server's metadata."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import EnvironmentFailedError, UsageError
from harness.load.answers import Expectation, ExpectedOutput, numpy_type
from harness.reference import Reference, read_reference

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.load.target import Target

__all__ = ["Case", "Examples", "Tensor", "draw", "from_metadata", "from_reference"]

POOL_SIZE = 64
# Fewer different requests where they are large: a pool takes at most this many bytes.
POOL_BYTES = 256 * 2**20
SMALLEST_POOL = 4
RANDOM_EXAMPLES = 256


@dataclass(frozen=True)
class Tensor:
    """A model's input or output: the protocol's name of its datatype, its shape without the batch axis."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Examples:
    """Examples to send, with their right answers where those are known.

    Attributes:
        inputs: the model's inputs.
        outputs: the model's outputs, -1 where any size is right.
        data: arrays by tensor name, first axis examples; ``outputs`` empty where not known.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    data: Reference


@dataclass(frozen=True)
class Case:
    """One request: its input tensors and what must come back."""

    inputs: tuple[tuple[Tensor, npt.NDArray[Any]], ...]
    expectation: Expectation


def datatype_of(array: npt.NDArray[Any]) -> str:
    """The protocol's name of an array's type.

    Raises:
        UsageError: the protocol has none.
    """
    if array.dtype.kind in "SO":
        return "BYTES"
    names = ["BOOL", "FP16", "FP32", "FP64"]
    names += [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
    for name in names:
        if numpy_type(name) == array.dtype:
            return name
    raise UsageError(f"tensors of type {array.dtype} cannot be sent to a server")


def from_reference(target: Target) -> Examples:
    """Read the target's reference file.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    if target.reference is None:
        raise UsageError("no reference file was given")
    data = read_reference(target.reference)
    return Examples(_tensors(data.inputs), _tensors(data.outputs), data)


def _tensors(arrays: dict[str, npt.NDArray[Any]]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(name, datatype_of(array), array.shape[1:]) for name, array in arrays.items()
    )


def from_metadata(metadata: dict[str, Any], *, batched: bool, seed: int) -> Examples:
    """Make random examples that fit a model's metadata (KServe v2, ``/v2/models/M``).

    Floating-point values are uniform in [0, 1), integers in 0–9, strings are digits; a free dimension
    is 1 long.

    Raises:
        EnvironmentFailedError: the metadata is not understood.
    """
    try:
        inputs, outputs = (
            tuple(
                Tensor(str(t["name"]), str(t["datatype"]), tuple(int(d) for d in t["shape"]))
                for t in metadata[side]
            )
            for side in ("inputs", "outputs")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EnvironmentFailedError(f"the model's metadata is not understood ({error})") from error
    if batched:
        inputs, outputs = (
            tuple(Tensor(t.name, t.datatype, t.shape[1:]) for t in side)
            for side in (inputs, outputs)
        )
    inputs = tuple(Tensor(t.name, t.datatype, tuple(max(d, 1) for d in t.shape)) for t in inputs)
    rng = np.random.default_rng(seed)
    one_bytes = sum(math.prod(t.shape) * 8 for t in inputs)
    count = max(SMALLEST_POOL, min(RANDOM_EXAMPLES, POOL_BYTES // max(one_bytes, 1)))
    arrays = {t.name: _random(t, count, rng) for t in inputs}
    return Examples(inputs, outputs, Reference(arrays, {}))


def _random(tensor: Tensor, count: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    shape = (count, *tensor.shape)
    if tensor.datatype == "BYTES":
        return rng.integers(10, size=shape).astype("S1")
    if tensor.datatype == "BF16":
        return rng.random(shape, dtype=np.float32)
    kind = numpy_type(tensor.datatype)
    if kind is None:
        raise EnvironmentFailedError(
            f"no random input can be made for {tensor.name}, whose datatype is {tensor.datatype}",
            remedy="Give a reference file with example inputs",
        )
    if kind.kind == "f":
        return rng.random(shape, dtype=np.float32).astype(kind)
    return rng.integers(2 if kind.kind == "b" else 10, size=shape).astype(kind)


def draw(examples: Examples, target: Target, batch_size: int, seed: int) -> list[Case]:
    """Draw a pool of different requests; every example comes up once before one comes up twice.

    Args:
        examples: what to draw from.
        target: the model.
        batch_size: inferences in one request.
        seed: seeds the order.

    Raises:
        UsageError: a batch above 1 for a model that takes none.
    """
    if batch_size > 1 and not target.batched:
        raise UsageError(
            f"the model {target.model} takes no batches, and the client batch size is {batch_size}",
            remedy="Use batch size 1, or give the model a max_batch_size above 0",
        )
    data = examples.data
    one = sum(array[0].nbytes for array in data.inputs.values()) * batch_size
    count = max(SMALLEST_POOL, min(POOL_SIZE, POOL_BYTES // max(one, 1)))
    rng = np.random.default_rng([seed, batch_size])
    rounds = -(-count * batch_size // data.examples)
    order = np.concatenate([rng.permutation(data.examples) for _ in range(rounds)])
    rows = order[: count * batch_size].reshape(count, batch_size)
    return [_case(examples, target, chosen) for chosen in rows]


def _case(examples: Examples, target: Target, rows: npt.NDArray[np.int64]) -> Case:
    data = examples.data
    lead = (len(rows),) if target.batched else ()
    pick = rows if target.batched else rows[0]
    inputs = tuple((t, np.ascontiguousarray(data.inputs[t.name][pick])) for t in examples.inputs)
    outputs = tuple(
        ExpectedOutput(
            name=t.name,
            datatype=t.datatype,
            shape=(*lead, *t.shape),
            values=data.outputs[t.name][pick] if t.name in data.outputs else None,
            tolerance=target.tolerance,
        )
        for t in examples.outputs
    )
    return Case(inputs, Expectation(target.model, outputs))
