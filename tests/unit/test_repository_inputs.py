"""Example inputs: random ones, and those of a user's files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.errors import UsageError
from harness.repository.data_files import read_examples
from harness.repository.images import image_format, read_image
from harness.repository.inputs import InputOptions, random_inputs
from harness.repository.tensors import DATA_TYPES, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = TensorSpec("tokens", "TYPE_INT64", (-1, -1))
IMAGE = TensorSpec("image", "TYPE_FP32", (-1, 2, 3, 1))
TEXT = TensorSpec("text", "TYPE_STRING", (-1, 2))


@given(
    data_type=st.sampled_from(sorted(DATA_TYPES)),
    low=st.integers(0, 50),
    width=st.integers(1, 70),
    seed=st.integers(0, 2**31),
)
def test_random_values_lie_in_their_range_and_come_again_with_the_seed(
    data_type: str, low: int, width: int, seed: int
) -> None:
    spec = TensorSpec("x", data_type, (-1, 4))
    options = InputOptions(examples=16, ranges={"x": (low, low + width)}, seed=seed)
    [array] = random_inputs([spec], options, batched=True, where="m").values()
    assert array.shape == (16, 4)
    assert array.dtype == spec.dtype or (spec.dtype.kind == array.dtype.kind == "S")
    if spec.dtype.kind != "b":
        numbers = array.astype(np.float64)
        assert numbers.min() >= low
        assert numbers.max() <= low + width - (spec.dtype.kind != "f")
    [again] = random_inputs([spec], options, batched=True, where="m").values()
    assert np.array_equal(array, again)


def test_another_seed_gives_other_values() -> None:
    arrays = [
        random_inputs([IMAGE], InputOptions(seed=seed), batched=True, where="m")["image"]
        for seed in (1, 2)
    ]
    assert not np.array_equal(*arrays)


def test_without_a_batch_dimension_every_dimension_is_the_example_s() -> None:
    fixed = TensorSpec("x", "TYPE_FP32", (4, 5))
    arrays = random_inputs([fixed], InputOptions(examples=3), batched=False, where="m")
    assert arrays["x"].shape == (3, 4, 5)
    options = InputOptions(examples=3, shapes={"tokens": (2, 7)})
    arrays = random_inputs([TOKENS], options, batched=False, where="m")
    assert arrays["tokens"].shape == (3, 2, 7)


def write_json(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    "data",
    [
        {"tokens": [[1, 2, 3], [4, 5, 6]]},
        {"data": [{"tokens": {"content": [1, 2, 3], "shape": [3]}}, {"tokens": {"content": [4, 5, 6], "shape": [3]}}]},
        {"data": [{"tokens": [1, 2, 3]}, {"tokens": [4, 5, 6]}]},
    ],
)  # fmt: skip
def test_json_of_either_kind_is_read(tmp_path: Path, data: object) -> None:
    arrays, labels = read_examples(write_json(tmp_path / "d.json", data), [TOKENS], batched=True)
    assert arrays["tokens"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert arrays["tokens"].dtype == np.int64
    assert labels is None


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ([1, 2], 'holds no object of arrays by name. Write {"tokens": [examples…]}.'),
        ({"tokens": [[1, 2], [3]]}, "the examples for tokens have different shapes. Give examples of one shape."),
        ({"tokens": {"a": 1}}, "not an array of values. Give numbers, truth values or strings in nested lists"),
        ({"token": [[1]]}, "Did you mean tokens"),
        ({"data": [{"tokens": [1, 2]}, {"tokens": [1]}]}, "the examples have different shapes"),
        ({"data": [[1]]}, 'an example in data is no object. Write {"data": [{"tokens": [values…]}, …]}.'),
        ({"data": [{"tokens": {"content": [1, 2, 3], "shape": [2, 2]}}]}, "3 values for tokens do not make the shape"),
        ({"data": [{"tokens": {"content": [1, 2, 3], "shape": "three"}}]}, "do not make the shape"),
        ({"tokens": [["a"]]}, "the data for tokens are <U1"),
        ({"tokens": [[None]]}, "not an array of values"),
        ({}, "has no data for the input tokens"),
    ],
)  # fmt: skip
def test_json_that_does_not_fit_is_refused(tmp_path: Path, data: object, sentence: str) -> None:
    path = write_json(tmp_path / "d.json", data)
    with pytest.raises(UsageError) as caught:
        read_examples(path, [TOKENS], batched=True)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)


def test_strings_become_bytes_of_utf_8(tmp_path: Path) -> None:
    path = write_json(tmp_path / "d.json", {"text": [["é", "b"], ["c", ""]]})
    arrays, _ = read_examples(path, [TEXT], batched=True)
    assert arrays["text"].tolist() == [["é".encode(), b"b"], [b"c", b""]]


def test_arrays_keep_their_labels_and_leave_answers_out(tmp_path: Path) -> None:
    """A reference.npz of one export is the data of another."""
    path = tmp_path / "d.npz"
    image = np.zeros((2, 2, 3, 1))
    np.savez(
        path, **{"input:image": image, "output:y": np.zeros((2, 9)), "labels": np.array([3, 1])}
    )
    arrays, labels = read_examples(path, [IMAGE], batched=True)
    assert arrays["image"].dtype == np.float32
    assert labels is not None
    assert labels.tolist() == [3, 1]


@pytest.mark.parametrize("labels", [np.array([0.5, 1]), np.zeros((2, 1), int)])
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, labels: Any) -> None:
    np.savez(tmp_path / "d.npz", image=np.zeros((2, 2, 3, 1)), labels=labels)
    with pytest.raises(UsageError, match="labels must be whole numbers"):
        read_examples(tmp_path / "d.npz", [IMAGE], batched=True)


def test_whole_numbers_fit_where_nothing_is_lost(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.array([[1.0, 2.0]]))
    arrays, _ = read_examples(tmp_path / "d.npy", [TOKENS], batched=True)
    assert arrays["tokens"].tolist() == [[1, 2]]
    byte = TensorSpec("x", "TYPE_UINT8", (-1, 2))
    np.save(tmp_path / "d.npy", np.array([[1, 256]]))
    with pytest.raises(UsageError, match="the data for x are int64, not x UINT8"):
        read_examples(tmp_path / "d.npy", [byte], batched=True)


PIXELS = np.array([[0, 51, 102, 1], [153, 204, 255, 2]], np.uint8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "p.png"
    Image.fromarray(PIXELS).save(path)
    return path


@pytest.mark.parametrize(
    ("dims", "data_type", "wanted"),
    [
        ((2, 4, 1), "TYPE_FP32", PIXELS[:, :, None] / 255),
        ((2, 4), "TYPE_FP64", PIXELS / 255),
        ((1, 2, 4), "TYPE_FP32", PIXELS[None] / 255),
        ((2, 4, 1), "TYPE_UINT8", PIXELS[:, :, None]),
        ((2, 4, 3), "TYPE_UINT8", np.stack([PIXELS] * 3, axis=2)),
        ((3, 2, 4), "TYPE_UINT8", np.stack([PIXELS] * 3)),
    ],
)
def test_a_picture_takes_the_model_s_shape_and_scale(
    picture: Path, dims: tuple[int, ...], data_type: str, wanted: np.ndarray
) -> None:
    dtype = DATA_TYPES[data_type][0]
    form = image_format(dims, dtype, where="m")
    array = read_image(picture, form)
    assert array.dtype == dtype
    np.testing.assert_allclose(array, wanted, atol=1e-7)


def test_dark_and_light_are_swapped(picture: Path) -> None:
    form = image_format((2, 4, 1), np.dtype(np.uint8), where="m")
    assert np.array_equal(read_image(picture, form, invert=True)[:, :, 0], 255 - PIXELS)


@pytest.mark.parametrize("dims", [(28,), (28, 28, 2), (-1, 28, 1), (1, 28, 28, 1)])
def test_what_is_no_picture_is_said(dims: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="not a picture of known size"):
        image_format(dims, np.dtype(np.float32), where="m")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((3, 2, 4)), "has shape [3, 2, 4], and the model takes [2, 4, 1]. Save one picture a file in that shape"),
        (np.full((2, 4), np.nan), "holds NaN or infinity. Save it again with finite values."),
        (np.full((2, 4), np.inf), "holds NaN or infinity. Save it again with finite values."),
        (np.array([["a"]]), "holds no numbers. Save one array of numbers"),
    ],
)  # fmt: skip
def test_an_array_that_is_no_picture_of_the_model(
    tmp_path: Path, array: np.ndarray, sentence: str
) -> None:
    path = tmp_path / "p.npy"
    np.save(path, array)
    with pytest.raises(UsageError) as caught:
        read_image(path, image_format((2, 4, 1), np.dtype(np.float32), where="m"))
    assert str(caught.value).startswith(f"{path}: {sentence}")


def test_of_a_folder_subfolders_are_classes_in_their_order(tmp_path: Path) -> None:
    for place, name in enumerate(["b/1.png", "a/2.png", "b/0.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((2, 3), place, np.uint8)).save(tmp_path / name)
    arrays, labels = read_examples(tmp_path, [IMAGE], batched=True)
    assert labels is not None
    assert labels.tolist() == [0, 1, 1]
    assert np.round(arrays["image"][:, 0, 0, 0] * 255).tolist() == [1, 2, 0]
