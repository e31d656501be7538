"""Reference data: example inputs of a model and the answers that are right for them.

``reference.npz`` stands beside an exported model. It holds one array a tensor, named ``input:<name>``
and ``output:<name>``, whose first axis counts examples; ``labels`` (int64, one an example) where the
true classes are known. Strings are fixed-width byte arrays (dtype ``S``): nothing is ever unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from harness.archive import whole_file
from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["Reference", "read_reference", "write_reference"]


@dataclass(frozen=True)
class Reference:
    """Example inputs with their right answers.

    Attributes:
        inputs: by tensor name, shape (examples, *dims).
        outputs: by tensor name, shape (examples, *dims); empty where no right answers are known.
        labels: true classes, shape (examples,), or ``None``.
    """

    inputs: dict[str, npt.NDArray[Any]]
    outputs: dict[str, npt.NDArray[Any]]
    labels: npt.NDArray[np.int64] | None = None

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(next(iter(self.inputs.values())))


def write_reference(path: Path, reference: Reference) -> None:
    """Write ``reference`` to ``path``, whole or not at all."""
    arrays = {f"input:{name}": array for name, array in reference.inputs.items()}
    arrays |= {f"output:{name}": array for name, array in reference.outputs.items()}
    if reference.labels is not None:
        arrays["labels"] = reference.labels
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_reference(path: Path) -> Reference:
    """Read what :func:`write_reference` wrote.

    Raises:
        UsageError: the file is missing or damaged, holds no inputs, or something else beside them.
    """
    remedy = "Export the model again with harness export"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            data = {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, TypeError, ValueError, BadZipFile) as error:  # TypeError: of a .npy
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UsageError(
            f"not readable reference data ({reason})", where=str(path), remedy=remedy
        ) from error
    if odd := sorted(k for k in data if k != "labels" and not k.startswith(("input:", "output:"))):
        raise UsageError(
            f"holds {odd[0]!r}, which is neither input:…, output:… nor labels",
            where=str(path),
            remedy=remedy,
        )
    inputs = {k.removeprefix("input:"): v for k, v in data.items() if k.startswith("input:")}
    outputs = {k.removeprefix("output:"): v for k, v in data.items() if k.startswith("output:")}
    lengths = {len(array) if array.ndim else 0 for array in data.values()}
    if not inputs or len(lengths) != 1 or lengths == {0}:
        raise UsageError(
            "holds no examples, or tensors with different numbers of them",
            where=str(path),
            remedy=remedy,
        )
    return Reference(inputs, outputs, data.get("labels"))
