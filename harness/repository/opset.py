"""An ONNX model at another version of the operator set, for a runtime that reads no newer one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import version_converter

from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_at_opset"]


def write_at_opset(source: Path, target: Path, opset: int) -> None:
    """Write ``source`` to ``target`` with the operators of version ``opset``.

    Raises:
        UsageError: an operator has no counterpart there.
    """
    try:
        converted = version_converter.convert_version(onnx.load(str(source)), opset)
        onnx.checker.check_model(converted)
    except Exception as error:  # the converter raises types of its own, straight from Exception
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the model cannot be converted to opset {opset} ({reason})",
            where=str(source),
            remedy="Leave --opset out, or give one nearer to the model's own",
        ) from error
    onnx.save(converted, str(target))
