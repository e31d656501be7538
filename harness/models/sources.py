"""Where examples come from: digits that need no download, MNIST, a user's file or folder."""

from __future__ import annotations

import contextlib
import io
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from harness.errors import EnvironmentFailedError, UsageError
from harness.models.dataset import RawData
from harness.models.framework import load_keras, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["read_source"]

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
DOWNLOAD_TIMEOUT_S = 30.0
MOST_CLASSES = 1000
FASHION = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGITS = tuple("0123456789")


def read_source(data: str, *, full_scale: float | None = None, resize: bool = False) -> RawData:
    """Read ``digits``, ``mnist``, ``fashion-mnist``, an ``.npz`` file or a folder of images.

    Args:
        data: the source's name or path.
        full_scale: the value of a white pixel; ``None`` takes the source's own.
        resize: bring images of another size to 28×28.

    Raises:
        UsageError: there is no such source, or it cannot be read.
        EnvironmentFailedError: a data set has to be downloaded and cannot be.
    """
    if data == "digits":
        raw = _digits()
    elif data in {"mnist", "fashion-mnist"}:
        raw = _mnist(data)
    elif Path(data).is_dir():
        raw = _folder(Path(data))
    elif Path(data).suffix == ".npz":
        raw = _arrays(Path(data))
    else:
        raise UsageError(
            "no such data",
            where=f"--data {data}",
            remedy="Give digits, mnist, fashion-mnist, an .npz file with x and y, or a folder with"
            " one subfolder of images a class",
        )
    return RawData(
        raw.name,
        raw.images,
        raw.labels,
        raw.classes,
        full_scale or raw.full_scale,
        resize or raw.resize,
    )


def _digits() -> RawData:
    """1,797 handwritten digits of 8×8 pixels that come with scikit-learn.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository (the test part of it).
    """
    require("sklearn")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    name = "digits (scikit-learn, 8×8 resized to 28×28)"
    return RawData(name, bunch.images, bunch.target, DIGITS, 16.0, resize=True)


def _mnist(data: str) -> RawData:
    """70,000 images of 28×28 through ``keras.datasets``, downloaded once and kept by Keras."""
    keras = load_keras()
    source = keras.datasets.mnist if data == "mnist" else keras.datasets.fashion_mnist
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            (x, y), (x_test, y_test) = source.load_data()
    except Exception as error:
        # Keras wraps every failure of a download in a bare Exception.
        raise EnvironmentFailedError(
            f"{data} has to be downloaded once, and the download failed",
            remedy="Connect to the network, or train on the digits that need none: --data digits",
        ) from error
    finally:
        socket.setdefaulttimeout(previous)
    classes = DIGITS if data == "mnist" else FASHION
    return RawData(data, np.concatenate([x, x_test]), np.concatenate([y, y_test]), classes, 255.0)


def _arrays(path: Path) -> RawData:
    """``x`` of shape (examples, height, width[, 1]) and ``y`` of shape (examples,), from an ``.npz``.

    An optional ``classes`` holds the classes' names. White is 255 where ``x`` holds whole numbers and
    1 where it holds fractions.
    """
    where = str(path)
    try:
        # An open file of our own: NumPy leaves its own open when it is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            data = {name: arrays[name] for name in arrays.files if name in {"x", "y", "classes"}}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "damaged or pickled"
        raise UsageError(
            f"not a readable .npz file ({reason})",
            where=where,
            remedy="Write it with numpy.savez(path, x=…, y=…)",
        ) from error
    if missing := {"x", "y"} - data.keys():
        raise UsageError(
            f"holds no array named {' or '.join(sorted(missing))}",
            where=where,
            remedy="Write it with numpy.savez(path, x=…, y=…)",
        )
    x, y = data["x"], data["y"]
    if x.ndim not in {3, 4} or x.dtype.kind not in "buif":
        raise UsageError(
            f"x is {x.dtype} of shape {x.shape}",
            where=where,
            remedy="Give numbers of shape (examples, 28, 28) or (examples, 28, 28, 1)",
        )
    if y.ndim != 1 or len(y) != len(x):
        raise UsageError(
            f"{len(x)} examples in x, but y has the shape {y.shape}",
            where=where,
            remedy="Give exactly one label an example",
        )
    classes = _class_names(y, data.get("classes"), where)
    full_scale = 255.0 if x.dtype.kind in "bui" else 1.0
    return RawData(where, x, y, classes, full_scale)


def _class_names(
    y: npt.NDArray[Any], names: npt.NDArray[Any] | None, where: str
) -> tuple[str, ...]:
    if names is not None:
        return tuple(str(name) for name in names.ravel())
    if y.dtype.kind not in "buif":
        raise UsageError(
            f"y is {y.dtype}",
            where=where,
            remedy="Give the index of each example's class, from 0, and the names in an array"
            " named classes",
        )
    valid = y[np.isfinite(y)]
    valid = valid[(valid >= 0) & (valid == np.floor(valid))]
    highest = int(valid.max()) if len(valid) else 0
    if highest >= MOST_CLASSES:
        raise UsageError(
            f"label {highest} would mean {highest + 1} classes",
            where=where,
            remedy="Number the classes from 0, or give their names in an array named classes",
        )
    return tuple(str(number) for number in range(highest + 1))


def _folder(path: Path) -> RawData:
    """A folder with one subfolder a class; pictures are read as grey values from 0 to 255."""
    require("PIL")
    folders = sorted(child for child in path.iterdir() if child.is_dir())
    files = [
        (file, label)
        for label, folder in enumerate(folders)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in PICTURES
    ]
    if not files:
        raise UsageError(
            "holds no subfolder with images",
            where=str(path),
            remedy="Put the images of each class into a subfolder named after it",
        )
    images = list(_pictures(file for file, _ in files))
    labels = np.array([label for _, label in files])
    return RawData(str(path), images, labels, tuple(folder.name for folder in folders), 255.0)


def _pictures(files: Iterator[Path]) -> Iterator[npt.NDArray[Any] | None]:
    from PIL import Image

    for file in files:
        try:
            with Image.open(file) as picture:
                yield np.asarray(picture.convert("L"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            yield None
