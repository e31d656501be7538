"""Where the commands print: results to standard output, progress and remarks to standard error."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

__all__ = ["complain", "duration", "note", "out"]

out = Console(highlight=False, soft_wrap=True)
note = Console(stderr=True, highlight=False, soft_wrap=True)


def complain(sentence: str) -> None:
    """Print an error; what stands in brackets in it, such as a log's lines, is no markup."""
    note.print(Text("error: ", style="bold red") + Text(sentence, style="default"))


def duration(seconds: float) -> str:
    """A length of time in its two largest units: ``12 s``, ``1 min 20 s``, ``2 h 05 min``, ``3 days 4 h``."""
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest_s} s"
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days:,} days {hours} h"
