"""A paragraph of the method."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Paragraph"]


@dataclass(frozen=True)
class Paragraph:
    """One step of the method: what it is about, and what was done."""

    name: str
    text: str
