"""Examples fit for training: cleaned, normalised, shaped, split."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import UsageError
from harness.networks import SHAPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["Dataset", "RawData", "Split", "clean", "refuse_small_classes", "split"]

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1

REASONS = {
    "unreadable": "unreadable files",
    "unknown label": "unknown labels",
    "wrong shape": "of another shape than 28×28×1",
    "not a number": "with values that are no numbers",
    "out of range": "with values out of range",
}


@dataclass(frozen=True)
class RawData:
    """Examples as a source gives them.

    Attributes:
        name: the source in words.
        images: one array an example, of any shape and type; ``None`` where it could not be read.
        labels: one a row, the index of a class, or anything else where it is unknown.
        classes: the classes' names.
        full_scale: the value of a white pixel.
        resize: whether images of another size are brought to 28×28 (else they are left out).
    """

    name: str
    images: Sequence[npt.NDArray[Any] | None] | npt.NDArray[Any]
    labels: npt.NDArray[Any]
    classes: tuple[str, ...]
    full_scale: float
    resize: bool = False


@dataclass(frozen=True)
class Dataset:
    """Examples a network can learn from.

    Attributes:
        name: the source in words.
        x: float32, shape (examples, 28, 28, 1), within [0, 1].
        y: int64, shape (examples,), indices into ``classes``.
        classes: the classes' names.
        rows: how many examples the source held.
        dropped: how many of them were left out, by reason.
    """

    name: str
    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    rows: int
    dropped: dict[str, int]

    def take(self, rows: npt.NDArray[np.intp]) -> Dataset:
        """The examples at ``rows``."""
        return Dataset(self.name, self.x[rows], self.y[rows], self.classes, self.rows, self.dropped)


@dataclass(frozen=True)
class Split:
    """A stratified split: every class has the same share of each part."""

    train: Dataset
    validation: Dataset
    test: Dataset

    def without_test(self) -> Dataset:
        """Training and validation data together."""
        train, validation = self.train, self.validation
        return Dataset(
            train.name,
            np.concatenate([train.x, validation.x]),
            np.concatenate([train.y, validation.y]),
            train.classes,
            train.rows,
            train.dropped,
        )


def clean(raw: RawData) -> Dataset:
    """Leave out what cannot be learnt from and count it, then normalise and shape the rest.

    Each example is counted under the first reason that applies, in this order: unreadable, unknown
    label, wrong shape, not a number, out of range (below 0 or above ``full_scale``).

    Raises:
        UsageError: the labels do not match the examples, or nothing is left.
    """
    if len(raw.images) != len(raw.labels):
        raise UsageError(
            f"{len(raw.images)} examples with {len(raw.labels)} labels",
            where=raw.name,
            remedy="Give exactly one label an example",
        )
    x = np.empty((len(raw.images), *SHAPE), np.float32)
    y = np.empty(len(raw.images), np.int64)
    kept = 0
    dropped: Counter[str] = Counter()
    shapes: Counter[tuple[int, ...]] = Counter()
    for image, label in zip(raw.images, raw.labels, strict=True):
        if image is None:
            dropped["unreadable"] += 1
            continue
        if (known := _known(label, len(raw.classes))) is None:
            dropped["unknown label"] += 1
            continue
        shaped = _shaped(image, resize=raw.resize)
        if shaped is None:
            dropped["wrong shape"] += 1
            shapes[image.shape] += 1
        elif not np.isfinite(shaped).all():
            dropped["not a number"] += 1
        elif shaped.min() < 0 or shaped.max() > raw.full_scale:
            dropped["out of range"] += 1
        else:
            x[kept] = shaped / raw.full_scale
            y[kept] = known
            kept += 1
    if not kept:
        raise _nothing_left(raw, dropped, shapes)
    return Dataset(
        raw.name, x[:kept].copy(), y[:kept].copy(), raw.classes, len(raw.images), dict(dropped)
    )


def _known(label: Any, classes: int) -> int | None:  # noqa: ANN401 - labels come from a user's file
    try:
        number = float(label)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() and 0 <= number < classes else None


def _shaped(image: npt.NDArray[Any], *, resize: bool) -> npt.NDArray[np.float64] | None:
    """``image`` as (28, 28, 1), resized if allowed; ``None`` where its shape does not allow it."""
    if image.dtype.kind not in "buif":
        return None
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] != 1 or 0 in image.shape:
        return None
    if image.shape != SHAPE and not resize:
        return None
    values = image.astype(np.float64)
    return values if image.shape == SHAPE else _resized(values)


def _resized(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bilinear interpolation to 28×28 in 32-bit floats: the same on every machine."""
    from PIL import Image

    picture = Image.fromarray(image[:, :, 0].astype(np.float32))
    size = (SHAPE[1], SHAPE[0])
    pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float64)
    return pixels[:, :, None]


def _nothing_left(
    raw: RawData, dropped: Counter[str], shapes: Counter[tuple[int, ...]]
) -> UsageError:
    if not dropped:
        return UsageError("holds no examples", where=raw.name)
    counts = ", ".join(f"{count} {REASONS[reason]}" for reason, count in dropped.most_common())
    remedy = {
        "unreadable": "Give images as PNG or JPEG",
        "unknown label": f"Give labels from 0 to {len(raw.classes) - 1}",
        "wrong shape": "Give grey images of 28×28, or bring them to that size with --resize",
        "not a number": "Give finite pixel values",
        "out of range": f"Give values from 0 to {raw.full_scale:g}, or say what white is with"
        " --full-scale",
    }[dropped.most_common(1)[0][0]]
    if shapes:
        counts += f" ({'×'.join(map(str, shapes.most_common(1)[0][0]))})"
    return UsageError(f"no usable example: {counts}", where=raw.name, remedy=remedy)


def split(data: Dataset, seed: int) -> Split:
    """Split into 70 % training, 10 % validation and 20 % test data, stratified by class.

    Raises:
        UsageError: fewer than two classes, or a class too small to be in every part.
    """
    from sklearn.model_selection import train_test_split

    refuse_small_classes(data, 10, "at least 10 are needed to train, validate and test")
    rows = np.arange(len(data.y))
    rest, test = train_test_split(rows, test_size=TEST_SHARE, stratify=data.y, random_state=seed)
    train, validation = train_test_split(
        rest,
        test_size=VALIDATION_SHARE / (1 - TEST_SHARE),
        stratify=data.y[rest],
        random_state=seed,
    )
    return Split(data.take(train), data.take(validation), data.take(test))


def refuse_small_classes(data: Dataset, smallest: int, reason: str) -> None:
    """Refuse data in which some class has fewer than ``smallest`` examples, or is alone.

    Raises:
        UsageError: so it is; the sentence ends in ``reason``.
    """
    if len(data.classes) < 2:
        raise UsageError(
            "holds one class only", where=data.name, remedy="Give at least two classes"
        )
    counts = np.bincount(data.y, minlength=len(data.classes))
    rarest = int(counts.argmin())
    if counts[rarest] < smallest:
        amount = f"{counts[rarest]} usable example" + ("s" if counts[rarest] != 1 else "")
        raise UsageError(
            f"class {data.classes[rarest]!r} has {amount}, {reason}",
            where=data.name,
            remedy="Add examples of it or leave the class out",
        )
