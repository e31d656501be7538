"""Example inputs of any model: random ones, or those of a user's files, checked against its tensors."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from harness.errors import UsageError
from harness.point import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from harness.repository.tensors import TensorSpec

__all__ = ["InputOptions", "checked_inputs", "known_name", "random_inputs"]

# Small enough to be an index into most tables, since that is what whole numbers mostly are.
WHOLE_NUMBERS = (0, 10)
FRACTIONS = (0.0, 1.0)
MOST_VALUES = 500_000_000


class InputOptions(Frozen):
    """What random inputs are made of.

    Attributes:
        examples: how many.
        shapes: by input, its dimensions without the batch dimension, for those that are dynamic.
        ranges: by input, the smallest value and the bound that no value reaches.
        seed: seeds the values.
    """

    examples: PositiveInt = 64
    shapes: dict[str, tuple[PositiveInt, ...]] = Field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    seed: NonNegativeInt = 7


def random_inputs(
    inputs: Sequence[TensorSpec], options: InputOptions, *, batched: bool, where: str
) -> dict[str, npt.NDArray[Any]]:
    """Draw example inputs: uniform over a range, strings being whole numbers in decimal digits.

    Args:
        inputs: the model's tensors.
        options: how many, of which shapes, over which ranges.
        batched: the first dimension is the batch.
        where: names the model in errors.

    Returns:
        By tensor name, shape (examples, *dims).

    Raises:
        UsageError: a dynamic dimension without a stated shape, or a shape or range that does not fit.
    """
    names = [spec.name for spec in inputs]
    for name in (*options.shapes, *options.ranges):
        known_name(name, names, where=where)
    generator = np.random.default_rng(options.seed)
    shapes = {spec.name: _shape(spec, options, batched=batched, where=where) for spec in inputs}
    values = options.examples * sum(math.prod(shape) for shape in shapes.values())
    if values > MOST_VALUES:
        raise UsageError(
            f"{options.examples} examples of these shapes are {values:,} values, more than the"
            f" {MOST_VALUES:,} that are drawn",
            where=where,
            remedy="Ask for fewer with --examples, or for smaller ones with --shape",
        )
    return {
        spec.name: _draw(
            generator,
            spec,
            (options.examples, *shapes[spec.name]),
            options.ranges.get(spec.name),
            where,
        )
        for spec in inputs
    }


def known_name(name: str, names: Iterable[str], *, where: str) -> str:
    """Return ``name`` if the model has such an input.

    Raises:
        UsageError: it has not, with the nearest right spelling.
    """
    known = list(names)
    if name in known:
        return name
    close = difflib.get_close_matches(name, known, n=1)
    raise UsageError(
        f"the model has no input {name}",
        where=where,
        remedy=f"Did you mean {close[0]}" if close else f"Its inputs are: {', '.join(known)}",
    )


def _shape(
    spec: TensorSpec, options: InputOptions, *, batched: bool, where: str
) -> tuple[int, ...]:
    dims = spec.dims[1:] if batched else spec.dims
    shape = options.shapes.get(spec.name)
    if shape is None:
        if -1 in dims:
            example = ",".join("16" if size < 0 else str(size) for size in dims)
            raise UsageError(
                f"the input {spec.label} has a dynamic dimension, so random data need its shape",
                where=where,
                remedy=f"State it{' without the batch dimension' if batched else ''}, such as"
                f" --shape {spec.name}={example}, or give --data",
            )
        return dims
    if not _fits(shape, dims):
        raise UsageError(
            f"the shape {list(shape)} does not fit the input {spec.label}",
            where=where,
            remedy="Leave the batch dimension out" if batched else "Give every dimension",
        )
    return shape


def _fits(shape: Sequence[int], dims: Sequence[int]) -> bool:
    return len(shape) == len(dims) and all(
        wanted in (-1, size) for size, wanted in zip(shape, dims, strict=True)
    )


def _draw(
    generator: np.random.Generator,
    spec: TensorSpec,
    shape: tuple[int, ...],
    bounds: tuple[float, float] | None,
    where: str,
) -> npt.NDArray[Any]:
    dtype = spec.dtype
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    low, high = bounds or (FRACTIONS if dtype.kind == "f" else WHOLE_NUMBERS)
    if not (np.isfinite([low, high]).all() and low < high):
        raise UsageError(
            f"the range {low:g} to {high:g} of the input {spec.name} is empty",
            where=where,
            remedy=f"Give the smaller bound first, such as --range {spec.name}=0:1",
        )
    limits = (
        np.finfo(dtype) if dtype.kind == "f" else np.iinfo("i8" if dtype.kind == "S" else dtype)
    )
    if low < limits.min or high > float(limits.max) + 1:
        raise UsageError(
            f"the range {low:g} to {high:g} does not fit the input {spec.label}",
            where=where,
            remedy=f"Stay within {limits.min:g} to {limits.max:g} with --range {spec.name}",
        )
    if dtype.kind == "f":
        return generator.uniform(low, high, shape).astype(dtype)
    kind = np.int64 if dtype.kind == "S" else dtype
    whole = generator.integers(int(low), int(np.ceil(high)), shape, dtype=kind)
    return whole.astype(np.str_).astype(np.bytes_) if dtype.kind == "S" else whole


def checked_inputs(
    arrays: Mapping[str, npt.NDArray[Any]],
    inputs: Sequence[TensorSpec],
    *,
    batched: bool,
    where: str,
) -> dict[str, npt.NDArray[Any]]:
    """Check a user's arrays against the model's tensors and bring them to its types.

    Args:
        arrays: by tensor name, shape (examples, *dims).
        inputs: the model's tensors.
        batched: the first dimension of the tensors is the batch.
        where: names the file in errors.

    Raises:
        UsageError: a tensor is missing or unknown, has another shape or type, holds NaN, or there are
            different numbers of examples.
    """
    for name in arrays:
        known_name(name, [spec.name for spec in inputs], where=where)
    checked = {}
    for spec in inputs:
        if spec.name not in arrays:
            raise UsageError(
                f"has no data for the input {spec.label}",
                where=where,
                remedy="Give one array for every input, by its name",
            )
        array = _typed(arrays[spec.name], spec, where)
        dims = spec.dims[1:] if batched else spec.dims
        if array.ndim == 0 or not _fits(array.shape[1:], dims):
            wanted = ["examples", *("any" if size < 0 else size for size in dims)]
            raise UsageError(
                f"the data for {spec.name} have shape {list(array.shape)},"
                f" not {_bracketed(wanted)}",
                where=where,
                remedy="The first axis counts examples",
            )
        checked[spec.name] = array
    lengths = {name: len(array) for name, array in checked.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UsageError(
            f"holds different numbers of examples, or none ({counts})",
            where=where,
            remedy="Give as many examples for every input",
        )
    return checked


def _typed(array: npt.NDArray[Any], spec: TensorSpec, where: str) -> npt.NDArray[Any]:
    if spec.dtype.kind == "S":
        if array.dtype.kind in "OU":
            array = np.char.encode(array.astype(np.str_), "utf-8")
        if array.dtype.kind == "S":
            return array
    elif array.dtype.kind in "biuf":
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UsageError(
                f"the data for {spec.name} hold NaN or infinity",
                where=where,
                remedy="Take those examples out",
            )
        changed = array.astype(spec.dtype)
        # A cast between widths of floating-point numbers rounds; any other must change nothing.
        if spec.dtype.kind == "f" or np.array_equal(changed, array):
            return changed
    raise UsageError(
        f"the data for {spec.name} are {array.dtype}, not {spec.label}",
        where=where,
        remedy=f"Save them as {spec.dtype}",
    )


def _bracketed(parts: Sequence[object]) -> str:
    return "[" + ", ".join(map(str, parts)) + "]"
