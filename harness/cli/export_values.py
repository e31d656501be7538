"""Option values of ``harness export`` that are small notations: sizes, shapes, ranges, versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.repository.options import VersionPolicy

__all__ = ["ranges", "shapes", "sizes", "version_policy"]


def sizes(text: str | None, option: str, *, least: int = 1) -> tuple[int, ...] | None:
    """``1,8,64`` to numbers; ``None`` where nothing was said."""
    if text is None:
        return None
    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        numbers = (least - 1,)
    if any(number < least for number in numbers):
        raise UsageError(
            f"expected whole numbers from {least} on, such as 1,8,64, not {text!r}",
            where=option,
        )
    return numbers


def shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """``tokens=1,16`` to a shape by input."""
    found = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        shape = sizes(value, "--shape") if name else None
        if not shape:
            raise UsageError(
                f"expected an input and its shape, such as tokens=1,16, not {text!r}",
                where="--shape",
            )
        found[name] = shape
    return found


def ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """``tokens=0:1000`` to a range by input."""
    found = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        low, _, high = value.partition(":")
        try:
            found[name] = (float(low), float(high))
        except ValueError:
            name = ""
        if not name:
            raise UsageError(
                f"expected an input and its range, such as tokens=0:1000, not {text!r}",
                where="--range",
            )
    return found


def version_policy(text: str | None) -> VersionPolicy | None:
    """``all``, ``latest:2`` or ``1,3`` to a policy; ``None`` where nothing was said."""
    from harness.repository.options import VersionPolicy

    if text is None:
        return None
    if text == "all":
        return VersionPolicy()
    count = text.removeprefix("latest:")
    try:
        numbers = sizes(count, "--version-policy") or ()
    except UsageError:
        numbers = ()
    if not numbers or (count != text and len(numbers) != 1):
        raise UsageError(
            f"expected all, latest:2 or versions such as 1,3, not {text!r}",
            where="--version-policy",
        )
    return VersionPolicy(latest=numbers[0]) if count != text else VersionPolicy(specific=numbers)
