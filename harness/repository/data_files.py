"""Example inputs from a user's files: .npy, .npz, JSON, or a folder of pictures."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from harness.errors import UsageError
from harness.repository.images import IMAGE_SUFFIXES, image_format, read_image
from harness.repository.inputs import checked_inputs, known_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from harness.repository.tensors import TensorSpec

__all__ = ["check_labels", "read_examples"]

Examples = tuple["dict[str, npt.NDArray[Any]]", "npt.NDArray[np.int64] | None"]
LABELS = "labels"
LARGEST_JSON_BYTES = 256 << 20


def read_examples(
    path: Path, inputs: Sequence[TensorSpec], *, batched: bool, resize: bool = False
) -> Examples:
    """Read example inputs.

    A ``.npz`` holds one array an input, by its name, and may hold ``labels``; a ``.npy`` the only input.
    JSON is either ``{"input": [examples…]}`` or what ``perf_analyzer --input-data`` reads:
    ``{"data": [{"input": [values…]}, {"input": {"content": […], "shape": […]}}]}``. Of a folder every
    picture is an example of the only input; where it has subfolders, each is a class, in their order.

    Args:
        path: the file or folder.
        inputs: the model's tensors.
        batched: the first dimension of the tensors is the batch.
        resize: bring pictures to the model's size.

    Returns:
        By tensor name, shape (examples, *dims), and the true classes where they are known.

    Raises:
        UsageError: it cannot be read, or does not fit the model.
    """
    labels: npt.NDArray[np.int64] | None = None
    if path.is_dir():
        arrays, labels = _pictures(path, inputs, batched=batched, resize=resize)
    elif path.suffix == ".npz":
        arrays, labels = _archive(path)
    elif path.suffix == ".npy":
        arrays = {_only(inputs, path).name: _array(path)}
    elif path.suffix == ".json":
        arrays = _json(path, inputs, batched=batched)
    else:
        raise UsageError(
            "not data of a known kind" if path.exists() else "no such file or folder",
            where=str(path),
            remedy="Give a .npy, .npz or .json file, or a folder of pictures",
        )
    checked = checked_inputs(arrays, inputs, batched=batched, where=str(path))
    if labels is not None and len(labels) != len(next(iter(checked.values()))):
        raise UsageError(
            "holds another number of labels than of examples",
            where=str(path),
            remedy="Give one label an example, or leave labels out",
        )
    return checked, labels


def check_labels(path: Path, labels: npt.NDArray[np.int64], classes: int) -> None:
    """Refuse labels that are no classes of the model.

    Args:
        path: the file or folder that they were read from.
        labels: true classes, shape (examples,).
        classes: how many the model tells apart.

    Raises:
        UsageError: a label is none of 0 to ``classes`` - 1, or a folder has another number of
            subfolders than there are classes, so that they would be numbered wrongly.
    """
    if path.is_dir() and (folders := len(_class_folders(path))) != classes:
        raise UsageError(
            f"{folders} subfolders would be classes 0 to {folders - 1}, and the model has {classes}",
            where=str(path),
            remedy="Make one for each class, in the model's order; one without pictures may be empty",
        )
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise UsageError(
            f"{wrong.size} of {labels.size} labels, such as {wrong[0]}, are none of the model's"
            f" {classes} classes",
            where=str(path),
            remedy=f"Number the classes from 0 to {classes - 1}, or leave labels out",
        )


def _class_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _only(inputs: Sequence[TensorSpec], path: Path) -> TensorSpec:
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise UsageError(
            f"holds one tensor, and the model has the inputs {names}",
            where=str(path),
            remedy="Give a .npz with one array for each, by its name",
        )
    return inputs[0]


def _array(path: Path) -> npt.NDArray[Any]:
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UsageError(
            f"not a readable array ({reason})",
            where=str(path),
            remedy="Save it again with numpy.save",
        ) from error
    if not isinstance(array, np.ndarray):
        raise UsageError("holds several arrays", where=str(path), remedy="Call the file .npz")
    return array


def _archive(path: Path) -> Examples:
    try:
        # NumPy would leave a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name.removeprefix("input:"): archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UsageError(
            f"not readable arrays ({reason})",
            where=str(path),
            remedy="Save them again with numpy.savez",
        ) from error
    arrays = {name: array for name, array in arrays.items() if not name.startswith("output:")}
    labels = arrays.pop(LABELS, None)
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        raise UsageError(
            "labels must be whole numbers, one an example",
            where=str(path),
            remedy="Number the classes from 0, or leave labels out",
        )
    return arrays, None if labels is None else labels.astype(np.int64)


def _json(
    path: Path, inputs: Sequence[TensorSpec], *, batched: bool
) -> dict[str, npt.NDArray[Any]]:
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise UsageError("too large for JSON", where=str(path), remedy="Save it as .npz")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UsageError(
            f"not readable JSON ({reason})",
            where=str(path),
            remedy="Give an object of arrays by the names of the inputs",
        ) from error
    if not isinstance(data, dict):
        raise UsageError(
            "holds no object of arrays by name",
            where=str(path),
            remedy=f'Write {{"{inputs[0].name}": [examples…]}}',
        )
    names = [spec.name for spec in inputs]
    specs = {spec.name: spec for spec in inputs}
    if isinstance(data.get("data"), list) and "data" not in names:
        rows: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
        for row in data["data"]:
            if not isinstance(row, dict):
                raise UsageError(
                    "an example in data is no object",
                    where=str(path),
                    remedy=f'Write {{"data": [{{"{names[0]}": [values…]}}, …]}}',
                )
            for name, value in row.items():
                spec = specs[known_name(name, names, where=str(path))]
                rows[name].append(_row(value, spec, batched=batched, where=str(path)))
        return {name: _stacked(values, path) for name, values in rows.items() if values}
    return {
        name: _values(values, specs[known_name(name, names, where=str(path))], str(path))
        for name, values in data.items()
    }


def _row(value: Any, spec: TensorSpec, *, batched: bool, where: str) -> npt.NDArray[Any]:  # noqa: ANN401
    """One example as ``perf_analyzer`` writes it: flat values, with or without their shape."""
    dims = spec.dims[1:] if batched else spec.dims
    shape: Any = dims
    if isinstance(value, dict):
        shape, value = value.get("shape", dims), value.get("content")
    array = _values(value, spec, where)
    try:
        return array.reshape(tuple(int(size) for size in shape))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{array.size} values for {spec.name} do not make the shape {list(shape)}",
            where=where,
            remedy='State it: {"content": […], "shape": […]}',
        ) from error


def _values(value: Any, spec: TensorSpec, where: str) -> npt.NDArray[Any]:  # noqa: ANN401 - JSON
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UsageError(
            f"the examples for {spec.name} have different shapes",
            where=where,
            remedy="Give examples of one shape",
        ) from error
    if array.dtype.kind == "O":
        raise UsageError(
            f"the data for {spec.name} are not an array of values",
            where=where,
            remedy="Give numbers, truth values or strings in nested lists, and no null",
        )
    return array


def _stacked(rows: list[npt.NDArray[Any]], path: Path) -> npt.NDArray[Any]:
    try:
        return np.stack(rows)
    except ValueError as error:
        raise UsageError(
            "the examples have different shapes",
            where=str(path),
            remedy="Give examples of one shape",
        ) from error


def _pictures(
    folder: Path, inputs: Sequence[TensorSpec], *, batched: bool, resize: bool
) -> Examples:
    spec = _only(inputs, folder)
    dims = spec.dims[1:] if batched else spec.dims
    form = image_format(dims, spec.dtype, where=str(folder))
    classes = _class_folders(folder)
    groups = classes or [folder]
    found = [
        (path, label)
        for label, group in enumerate(groups)
        for path in sorted(group.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not found:
        raise UsageError(
            "holds no pictures", where=str(folder), remedy="Give a folder with PNG or JPEG files"
        )
    array = np.stack([read_image(path, form, resize=resize) for path, _ in found])
    labels = np.array([label for _, label in found], np.int64) if classes else None
    return {spec.name: array}, labels
