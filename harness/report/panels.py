"""A panel: one small figure with its title, as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["Panel"]


@dataclass(frozen=True)
class Panel:
    """One figure of a group of alike ones.

    Attributes:
        title: the group that it is about, such as a workload.
        subtitle: what tells it from the others of the group; may be empty.
        svg: the figure; ``None`` where there is nothing to draw, and a note says why.
        notes: what a reader must know about it, whole sentences.
    """

    title: str
    subtitle: str
    svg: Markup | None
    notes: tuple[str, ...] = ()
