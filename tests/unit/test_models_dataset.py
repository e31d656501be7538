from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.models.dataset import Dataset, RawData, clean, refuse_small_classes, split
from harness.networks import SHAPE

CLASSES = ("cat", "dog")


def raw(images: list[Any], labels: list[Any], **changes: Any) -> RawData:
    options = {"name": "pets", "classes": CLASSES, "full_scale": 255.0} | changes
    return RawData(images=images, labels=np.array(labels), **options)


def labelled(counts: list[int], seed: int = 0) -> Dataset:
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.random.default_rng(seed).random((len(y), *SHAPE), dtype=np.float32)
    names = tuple(str(i) for i in range(len(counts)))
    return Dataset("numbers", x, y, names, len(y), {})


def test_cleaning_counts_every_example_left_out_under_its_reason() -> None:
    good = np.full((28, 28), 51, np.uint8)
    holed = np.full((28, 28), 51.0)
    holed[3, 4] = np.nan
    bright = np.full((28, 28), 256.0)
    dark = np.full((28, 28), -1.0)
    images = [good, None, good, good, good[:20], holed, bright, dark, good[:, :, None], good]
    labels = [1, 0, 2, -1, 0, 0, 0, 1, 0, 0.5]
    data = clean(raw(images, labels))
    assert data.dropped == {
        "unreadable": 1,
        "unknown label": 3,
        "wrong shape": 1,
        "not a number": 1,
        "out of range": 2,
    }
    assert data.rows == 10
    assert data.y.tolist() == [1, 0]
    assert data.x.shape == (2, *SHAPE)
    assert data.x.dtype == np.float32
    np.testing.assert_array_equal(data.x, np.float32(0.2))


def test_an_infinite_value_is_no_number_and_a_nan_label_is_unknown() -> None:
    good = np.ones((28, 28))
    endless = good.copy()
    endless[0, 0] = np.inf
    data = clean(raw([good, endless, good], [0.0, 1.0, np.nan]))
    assert data.dropped == {"not a number": 1, "unknown label": 1}


def test_a_colour_image_is_of_the_wrong_shape_even_when_resizing() -> None:
    colour = np.ones((28, 28, 3))
    data = clean(raw([np.ones((28, 28)), colour], [0, 1], resize=True))
    assert data.dropped == {"wrong shape": 1}


@settings(deadline=None)  # the first call imports Pillow
@given(st.floats(0, 255), st.integers(1, 40), st.integers(1, 40))
def test_resizing_keeps_a_flat_image_flat(grey: float, height: int, width: int) -> None:
    data = clean(raw([np.full((height, width), grey)], [0], resize=True))
    np.testing.assert_allclose(data.x, grey / 255, rtol=1e-6, atol=1e-7)


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_resizing_never_leaves_the_range(seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 2, (8, 8)) * 255
    data = clean(raw([image], [0], resize=True))
    assert data.dropped == {}
    assert data.x.min() >= 0
    assert data.x.max() <= 1


def test_resizing_is_bilinear() -> None:
    image = np.array([[0.0, 255.0]])
    row = clean(raw([image], [0], resize=True)).x[0, 0, :, 0]
    # 28 columns over two pixels: flat to the pixels' centres, a straight line between them.
    expected = np.clip((np.arange(28) + 0.5) / 14 - 0.5, 0, 1)
    np.testing.assert_allclose(row, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        ([np.full((28, 28), np.nan)] * 3, [0, 1, 0], "3 with values that are no numbers"),
        ([np.zeros((32, 30))] * 2, [0, 1], "2 of another shape than 28×28×1 (32×30)"),
        ([np.zeros((28, 28))] * 2, [7, 8], "Give labels from 0 to 1"),
        ([np.full((28, 28), 300.0)] * 2, [0, 1], "--full-scale"),
        ([], [], "holds no examples"),
        ([np.zeros((28, 28))] * 2, [0, 1, 1], "2 examples with 3 labels"),
        ([np.array("text")], [0], "of another shape"),
    ],
)
def test_data_with_nothing_usable_is_refused(
    images: list[Any], labels: list[int], sentence: str
) -> None:
    with pytest.raises(UsageError) as refused:
        clean(raw(images, labels))
    assert sentence in str(refused.value)
    assert str(refused.value).startswith("pets: ")


@settings(deadline=None)  # the first call imports scikit-learn
@given(st.lists(st.integers(10, 60), min_size=2, max_size=5), st.integers(0, 1000))
def test_a_split_is_stratified_and_loses_nothing(counts: list[int], seed: int) -> None:
    data = labelled(counts)
    parts = split(data, seed)
    pieces = (parts.train, parts.validation, parts.test)
    together = np.concatenate([piece.x for piece in pieces])
    assert sorted(map(bytes, together)) == sorted(map(bytes, data.x))
    for share, piece in zip((0.7, 0.1, 0.2), pieces, strict=True):
        got = np.bincount(piece.y, minlength=len(counts))
        assert np.abs(got - share * np.array(counts)).max() <= 2


def test_the_same_seed_splits_alike_and_another_does_not() -> None:
    data = labelled([30, 30])
    assert np.array_equal(split(data, 1).test.x, split(data, 1).test.x)
    assert not np.array_equal(split(data, 1).test.x, split(data, 2).test.x)


def test_a_class_that_is_too_small_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"class '1' has 1 usable example, at least 10"):
        split(labelled([30, 1, 30]), 7)


def test_a_single_class_is_refused() -> None:
    with pytest.raises(UsageError, match="one class only"):
        refuse_small_classes(labelled([30]), 1, "")
