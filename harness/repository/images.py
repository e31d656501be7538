"""Pictures as a model's input: PNG, JPEG and .npy files to arrays of the right shape and scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import EnvironmentFailedError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["IMAGE_SUFFIXES", "ImageFormat", "check_file", "image_format", "read_image"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})
CHANNELS = (1, 3)
MOST_PIXELS = 50_000_000
PICTURE_REMEDY = "Give the path of a PNG, JPEG or .npy file"


@dataclass(frozen=True)
class ImageFormat:
    """How a model takes a picture.

    Attributes:
        dims: the shape of one example as the model has it.
        height, width, channels: of the picture.
        channels_first: the channels stand before height and width.
        dtype: the model's type; a picture's 0 to 255 becomes 0 to 1 where it is a fraction.
    """

    dims: tuple[int, ...]
    height: int
    width: int
    channels: int
    channels_first: bool
    dtype: np.dtype[Any]


def image_format(dims: tuple[int, ...], dtype: np.dtype[Any], *, where: str) -> ImageFormat:
    """Tell how a model takes a picture from the shape of one example.

    Raises:
        UsageError: the shape is not that of a picture.
    """
    if len(dims) == 2 and min(dims) > 0:
        return ImageFormat(dims, dims[0], dims[1], 1, channels_first=False, dtype=dtype)
    if len(dims) == 3 and min(dims) > 0 and dims[2] in CHANNELS:
        return ImageFormat(dims, dims[0], dims[1], dims[2], channels_first=False, dtype=dtype)
    if len(dims) == 3 and min(dims) > 0 and dims[0] in CHANNELS:
        return ImageFormat(dims, dims[1], dims[2], dims[0], channels_first=True, dtype=dtype)
    raise UsageError(
        f"an input of shape {list(dims)} is not a picture of known size with 1 or 3 channels",
        where=where,
        remedy="Give the data as .npy or .npz instead",
    )


def check_file(path: Path) -> None:
    """Refuse a file that is not there or cannot be opened, before a server is asked for anything.

    Raises:
        UsageError: so it is.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UsageError(
            f"cannot be read ({reason})", where=str(path), remedy=PICTURE_REMEDY
        ) from error


def read_image(
    path: Path, form: ImageFormat, *, resize: bool = False, invert: bool = False
) -> npt.NDArray[Any]:
    """Read one picture.

    Args:
        path: a picture, or a ``.npy`` with the model's own shape and scale.
        form: how the model takes it.
        resize: bring a picture of another size to the model's.
        invert: swap dark and light, for dark strokes on paper.

    Returns:
        Shape ``form.dims``.

    Raises:
        UsageError: it is missing, not a picture, of another size, or holds NaN.
    """
    if path.suffix.lower() == ".npy":
        return _read_array(path, form)
    pixels = _read_pixels(path, form, resize=resize)
    if invert:
        pixels = 255 - pixels
    if form.channels_first:
        pixels = pixels.transpose(2, 0, 1)
    scaled = pixels / 255.0 if form.dtype.kind == "f" else pixels
    return scaled.reshape(form.dims).astype(form.dtype)


def _read_pixels(path: Path, form: ImageFormat, *, resize: bool) -> npt.NDArray[np.uint8]:
    """Shape (height, width, channels), 0 to 255."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise EnvironmentFailedError(
            "reading pictures needs Pillow", remedy="Install the project with its extra: train"
        ) from error
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise UsageError(
                    f"a picture of {picture.width}×{picture.height} is too large",
                    where=str(path),
                    remedy=f"Make it smaller, at most {MOST_PIXELS:,} pixels",
                )
            ready = picture.convert("L" if form.channels == 1 else "RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "not a picture"
        raise UsageError(
            f"cannot be read ({reason})", where=str(path), remedy=PICTURE_REMEDY
        ) from error
    if ready.size != (form.width, form.height):
        if not resize:
            raise UsageError(
                f"is {ready.width}×{ready.height}, and the model takes {form.width}×{form.height}",
                where=str(path),
                remedy="Add --resize to bring it to that size",
            )
        ready = ready.resize((form.width, form.height), Image.Resampling.BILINEAR)
    return np.asarray(ready, np.uint8).reshape(form.height, form.width, form.channels)


def _read_array(path: Path, form: ImageFormat) -> npt.NDArray[Any]:
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "not an array"
        raise UsageError(
            f"cannot be read ({reason})", where=str(path), remedy=PICTURE_REMEDY
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise UsageError(
            "holds no numbers",
            where=str(path),
            remedy="Save one array of numbers, as the model takes them, with numpy.save",
        )
    if array.shape in (form.dims, (form.height, form.width), (1, *form.dims)):
        array = array.reshape(form.dims)
    else:
        raise UsageError(
            f"has shape {list(array.shape)}, and the model takes {list(form.dims)}",
            where=str(path),
            remedy="Save one picture a file in that shape, or give a PNG with --resize",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(
            "holds NaN or infinity", where=str(path), remedy="Save it again with finite values"
        )
    return array.astype(form.dtype)
