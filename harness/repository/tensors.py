"""Tensors as Triton, NumPy and ONNX name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["DATA_TYPES", "TensorSpec", "data_type_of"]

# Triton's data type: the NumPy type, the wire's name (KServe v2) and the number in onnx.proto.
DATA_TYPES: dict[str, tuple[np.dtype[Any], str, int]] = {
    "TYPE_BOOL": (np.dtype(np.bool_), "BOOL", 9),
    "TYPE_UINT8": (np.dtype(np.uint8), "UINT8", 2),
    "TYPE_UINT16": (np.dtype(np.uint16), "UINT16", 4),
    "TYPE_UINT32": (np.dtype(np.uint32), "UINT32", 12),
    "TYPE_UINT64": (np.dtype(np.uint64), "UINT64", 13),
    "TYPE_INT8": (np.dtype(np.int8), "INT8", 3),
    "TYPE_INT16": (np.dtype(np.int16), "INT16", 5),
    "TYPE_INT32": (np.dtype(np.int32), "INT32", 6),
    "TYPE_INT64": (np.dtype(np.int64), "INT64", 7),
    "TYPE_FP16": (np.dtype(np.float16), "FP16", 10),
    "TYPE_FP32": (np.dtype(np.float32), "FP32", 1),
    "TYPE_FP64": (np.dtype(np.float64), "FP64", 11),
    "TYPE_STRING": (np.dtype(np.bytes_), "BYTES", 8),
}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: the tensor's name.
        data_type: Triton's name of its type, such as ``TYPE_FP32``.
        dims: its shape as in the graph, the batch dimension included; -1 where a dimension is dynamic.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type; strings are fixed-width bytes (``S``)."""
        return DATA_TYPES[self.data_type][0]

    @property
    def label(self) -> str:
        """For people, such as ``image FP32 [?, 28, 28, 1]``."""
        shape = ", ".join("?" if size < 0 else str(size) for size in self.dims)
        return f"{self.name} {DATA_TYPES[self.data_type][1]} [{shape}]"


def data_type_of(onnx_type: int) -> str | None:
    """Triton's data type for a number of ``TensorProto.DataType``; ``None`` where it has none."""
    return next((name for name, known in DATA_TYPES.items() if known[2] == onnx_type), None)
