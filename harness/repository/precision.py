"""Precision variants of an ONNX model, float16 and int8, and what they lose."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from harness.point import Precision

    Arrays = dict[str, npt.NDArray[Any]]

__all__ = ["CALIBRATION_EXAMPLES", "Loss", "judge", "write_precision"]

CALIBRATION_EXAMPLES = 128
CONVOLUTIONS = frozenset({"Conv"})
INTEGER_OPERATORS = frozenset(
    {"QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "MatMulInteger"}
)


@dataclass(frozen=True)
class Loss:
    """What a variant loses against the model it was made from.

    Attributes:
        measure: ``accuracy`` (share of right classes, where the true ones are known), ``agreement``
            (share of equal most likely classes) or ``error`` (Euclidean norm of the difference, relative
            to that of the right answers).
        loss: the share or relative error lost; below 0 where the variant is better.
        examples: how many it was judged on; none of them was used to calibrate, if there were enough.
    """

    measure: Literal["accuracy", "agreement", "error"]
    loss: float
    examples: int


def write_precision(
    source: Path,
    target: Path,
    precision: Precision,
    calibration: Arrays,
    *,
    batched: bool,
    origin: str | None = None,
) -> None:
    """Write a variant of an ONNX model.

    float16 converts weights and arithmetic and keeps the types of inputs and outputs. int8 quantises
    statically where there are convolutions (quantise/dequantise pairs, activations unsigned, weights
    signed and per channel, range reduced by a bit since older CPUs saturate) and dynamically otherwise.
    Source: onnxruntime.ai, *Quantize ONNX models*.

    Args:
        source: the float32 model.
        target: the file to write.
        precision: ``float16`` or ``int8``.
        calibration: example inputs by tensor name, shape (examples, *dims).
        batched: the model has a batch dimension.
        origin: what the user named, where ``source`` was made from it; errors name that.

    Raises:
        UsageError: the model cannot be converted, or has nothing to convert.
    """
    where = origin or str(source)
    try:
        with _quiet():
            if precision == "float16":
                _write_float16(source, target, where)
            else:
                _write_int8(source, target, _one_by_one(calibration, batched=batched), where)
    except UsageError:
        raise
    except Exception as error:  # the converters raise whatever they stumble over
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(
            f"the model cannot be converted to {precision} ({reason})",
            where=where,
            remedy="Export it as float32",
        ) from error


def _write_float16(source: Path, target: Path, where: str) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(str(source))
    has_floats = any(
        tensor.data_type == onnx.TensorProto.FLOAT for tensor in model.graph.initializer
    )
    if not has_floats:
        raise UsageError(
            "the model has no float32 weights to convert",
            where=where,
            remedy="Export it as float32, which leaves the file as it is",
        )
    converted = convert_float_to_float16(model, keep_io_types=True)
    OnnxModel.graph_topological_sort(converted.graph)  # it appends its casts at the end
    onnx.save(converted, str(target))


def _one_by_one(inputs: Arrays, *, batched: bool) -> Iterator[Arrays]:
    """The examples that calibrate, each as the model takes one."""
    count = min(CALIBRATION_EXAMPLES, len(next(iter(inputs.values()))))
    for row in range(count):
        rows: slice | int = slice(row, row + 1) if batched else row
        yield {name: np.asarray(array[rows]) for name, array in inputs.items()}


def _write_int8(source: Path, target: Path, calibration: Iterator[Arrays], where: str) -> None:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Examples(CalibrationDataReader):  # type: ignore[misc]
        """One example at a time, as the quantiser asks for them."""

        def get_next(self) -> Arrays | None:
            return next(calibration, None)

    operators = {node.op_type for node in onnx.load(str(source)).graph.node}
    prepared = target.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    if operators & CONVOLUTIONS:
        quantize_static(
            str(prepared),
            str(target),
            Examples(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
    else:
        quantize_dynamic(str(prepared), str(target), weight_type=QuantType.QInt8)
    prepared.unlink()
    made = {node.op_type for node in onnx.load(str(target)).graph.node}
    if not made & INTEGER_OPERATORS:
        raise UsageError(
            "the model has nothing that ONNX Runtime quantises",
            where=where,
            remedy="Export it as float32 or float16",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The converters log advice and warn about their own future."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def judge(right: Arrays, answers: Arrays, labels: npt.NDArray[np.int64] | None) -> Loss:
    """Say what a variant loses.

    Examples that were used to calibrate are left out where at least as many others are left.

    Args:
        right: answers of the model that the variant was made from, shape (examples, *dims).
        answers: the variant's answers, alike.
        labels: true classes, shape (examples,), where they are known.
    """
    count = len(next(iter(right.values())))
    start = CALIBRATION_EXAMPLES if count >= 2 * CALIBRATION_EXAMPLES else count // 2
    rows = slice(start, None)
    classes = [name for name, array in right.items() if _is_scores(array)]
    if len(classes) == 1:
        name = classes[0]
        before, after = right[name][rows].argmax(axis=1), answers[name][rows].argmax(axis=1)
        if labels is not None:
            true = labels[rows]
            lost = float((before == true).mean() - (after == true).mean())
            return Loss("accuracy", lost, count - start)
        return Loss("agreement", float((before != after).mean()), count - start)
    worst = max(_relative_error(right[name][rows], answers[name][rows]) for name in right)
    return Loss("error", worst, count - start)


def _is_scores(array: npt.NDArray[Any]) -> bool:
    return array.ndim == 2 and array.dtype.kind == "f" and array.shape[1] > 1


def _relative_error(right: npt.NDArray[Any], answers: npt.NDArray[Any]) -> float:
    if right.dtype.kind not in "fc":
        return float((right != answers).mean())
    wanted, got = right.astype(np.float64), answers.astype(np.float64)
    size = float(np.linalg.norm(wanted))
    difference = float(np.linalg.norm(wanted - got))
    if not np.isfinite(difference):
        return float("inf")
    return difference / size if size > 0 else difference
