from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.errors import UsageError
from harness.reference import Reference, read_reference, write_reference

if TYPE_CHECKING:
    from pathlib import Path


def test_tensors_of_every_kind_come_back(tmp_path: Path) -> None:
    reference = Reference(
        inputs={"image": np.ones((3, 2, 2), np.float32), "text": np.array([b"a", b"bc", b""])},
        outputs={"scores": np.zeros((3, 10), np.float16)},
        labels=np.array([0, 1, 2]),
    )
    path = tmp_path / "reference.npz"
    write_reference(path, reference)
    back = read_reference(path)
    assert back.examples == 3
    assert back.inputs["image"].dtype == np.float32
    assert back.inputs["text"].tolist() == [b"a", b"bc", b""]
    assert back.outputs["scores"].dtype == np.float16
    assert back.labels is not None
    assert back.labels.tolist() == [0, 1, 2]


def test_pickled_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    with path.open("wb") as file:
        np.savez(file, **{"input:a": np.array([object()], dtype=object)})
    with pytest.raises(UsageError, match=r"reference\.npz.*harness export"):
        read_reference(path)


def test_tensors_of_different_lengths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    write_reference(path, Reference({"a": np.ones(3)}, {"b": np.ones(4)}))
    with pytest.raises(UsageError, match="different numbers"):
        read_reference(path)


def test_what_is_neither_tensor_nor_labels_is_named(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    with path.open("wb") as file:
        np.savez(file, **{"input:a": np.ones(3), "image": np.array(0)})
    with pytest.raises(
        UsageError, match=r"reference\.npz: holds 'image', which is neither.*export"
    ):
        read_reference(path)


def test_a_tensor_without_examples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    write_reference(path, Reference({"a": np.array(1.0)}, {}))
    with pytest.raises(UsageError, match="holds no examples"):
        read_reference(path)


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_a_missing_or_damaged_file_says_how_to_make_it_anew(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "reference.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="harness export"):
        read_reference(path)
