from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from harness.errors import UsageError
from harness.models.dataset import clean
from harness.models.sources import read_source

if TYPE_CHECKING:
    from pathlib import Path


def save_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_the_digits_are_there_without_a_network() -> None:
    data = clean(read_source("digits"))
    assert data.x.shape == (1797, 28, 28, 1)
    assert data.dropped == {}
    assert (data.x.min(), data.x.max()) == (0.0, 1.0)
    assert np.bincount(data.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_an_npz_of_whole_numbers_is_white_at_255(tmp_path: Path) -> None:
    x = np.full((4, 28, 28), 255, np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=[0, 1, 2, 1])
    raw = read_source(str(tmp_path / "a.npz"))
    assert raw.classes == ("0", "1", "2")
    assert clean(raw).x.max() == 1.0


def test_an_npz_of_fractions_is_white_at_1_unless_told(tmp_path: Path) -> None:
    path = str(tmp_path / "a.npz")
    np.savez(path, x=np.full((2, 28, 28, 1), 51.0), y=[0, 1])
    with pytest.raises(UsageError, match="2 with values out of range"):
        clean(read_source(path))
    assert clean(read_source(path, full_scale=255.0)).x.max() == pytest.approx(0.2)


def test_an_npz_names_its_classes(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((3, 28, 28)), y=[0, 1, 2], classes=np.array(["cat", "dog"]))
    raw = read_source(str(path))
    assert raw.classes == ("cat", "dog")
    assert clean(raw).dropped == {"unknown label": 1}


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": np.zeros((3, 28, 28))}, "holds no array named y"),
        ({"x": np.zeros((3, 28, 28)), "y": [0, 1]}, "3 examples in x, but y has the shape (2,)"),
        ({"x": np.zeros((3, 784)), "y": [0, 1, 1]}, "x is float64 of shape (3, 784)"),
        ({"x": np.zeros((1, 28, 28)), "y": ["cat"]}, "in an array named classes"),
        ({"x": np.zeros((1, 28, 28)), "y": [10**9]}, "would mean 1000000001 classes"),
    ],
)
def test_a_wrong_npz_is_refused(tmp_path: Path, arrays: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "wrong.npz"
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match=re.escape(sentence)) as refused:
        read_source(str(path))
    assert str(path) in str(refused.value)


def test_a_damaged_or_pickled_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.npz").write_bytes(b"PK\x03\x04 noise")
    pickled = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "pickled.npz", x=pickled, y=[0])
    for name in ("noise.npz", "pickled.npz"):
        with pytest.raises(UsageError, match="damaged or pickled"):
            read_source(str(tmp_path / name))


def test_a_folder_gives_one_class_a_subfolder(tmp_path: Path) -> None:
    save_image(tmp_path / "dog" / "1.png", np.full((28, 28), 255, np.uint8))
    save_image(tmp_path / "cat" / "1.png", np.full((28, 28, 3), 128, np.uint8))
    save_image(tmp_path / "cat" / "2.png", np.full((30, 28), 9, np.uint8))
    (tmp_path / "cat" / "3.jpg").write_bytes(b"no picture")
    (tmp_path / "cat" / "notes.txt").write_text("left alone")
    raw = read_source(str(tmp_path))
    assert raw.classes == ("cat", "dog")
    data = clean(raw)
    assert data.dropped == {"wrong shape": 1, "unreadable": 1}
    assert data.y.tolist() == [0, 1]
    assert data.x[:, 0, 0, 0] == pytest.approx([128 / 255, 1.0])
    assert clean(read_source(str(tmp_path), resize=True)).dropped == {"unreadable": 1}


def test_a_folder_without_images_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no subfolder with images"):
        read_source(str(tmp_path))
    with pytest.raises(UsageError, match="no such data"):
        read_source("didgits")
