"""Where the commands print: results to standard output, progress and remarks to standard error."""

from __future__ import annotations

from rich.console import Console

__all__ = ["note", "out"]

out = Console(highlight=False, soft_wrap=True)
note = Console(stderr=True, highlight=False, soft_wrap=True)
