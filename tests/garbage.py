"""What only the garbage collector would free: none runs while load is sent."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["uncollected"]


@contextmanager
def uncollected() -> Iterator[Callable[[], int]]:
    """Collect nothing within; what is given counts, afterwards, the objects that were left to collect."""
    counted: list[int] = []
    gc.collect()
    gc.disable()
    try:
        yield lambda: counted[0]
    finally:
        counted.append(gc.collect())
        gc.enable()
