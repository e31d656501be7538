"""Where the commands print: results to standard output, progress and remarks to standard error."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

__all__ = ["complain", "note", "out"]

out = Console(highlight=False, soft_wrap=True)
note = Console(stderr=True, highlight=False, soft_wrap=True)


def complain(sentence: str) -> None:
    """Print an error; what stands in brackets in it, such as a log's lines, is no markup."""
    note.print(Text("error: ", style="bold red") + Text(sentence, style="default"))
