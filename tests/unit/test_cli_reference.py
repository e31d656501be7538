"""``docs/cli.md`` is what the commands say of themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.core import TyperGroup

from harness.cli import app, verbs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(verbs.__file__).parents[2]
INTRODUCTION = """\
# Commands

What `harness --help` and `harness COMMAND --help` print, written down by `make docs`.
"""


def walk(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that name it, groups before what is in them."""
    yield words, command
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            if not inner.hidden:
                yield from walk(inner, (*words, name))


COMMANDS = dict(walk(typer.main.get_command(app)))


def help_of(words: tuple[str, ...]) -> str:
    """What a user sees on a terminal of 100 columns."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words, "--help"],
        check=True,
        capture_output=True,
        text=True,
        env=kept | {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"},
        timeout=60,
    )
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip()


def test_the_reference_is_what_the_commands_say(golden: Callable[[Path, str], None]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        texts = list(pool.map(help_of, COMMANDS))
    sections = [
        f"## {' '.join(('harness', *words))}\n\n```text\n{text}\n```\n"
        for words, text in zip(COMMANDS, texts, strict=True)
    ]
    golden(ROOT / "docs" / "cli.md", "\n".join([INTRODUCTION, *sections]))


@pytest.mark.parametrize("words", [words for words in COMMANDS if words], ids=" ".join)
def test_every_command_teaches(words: tuple[str, ...]) -> None:
    """What it does, an example, and a remark on every option."""
    command, name = COMMANDS[words], " ".join(("harness", *words))
    assert command.help, f"{name} says nothing of itself"
    options = [option for option in getattr(command, "params", []) if option.name != "help"]
    if isinstance(command, TyperGroup) or not options:
        return
    assert re.search(rf"^  {name}", command.help, re.MULTILINE), f"{name} shows no example"
    silent = [option.name for option in options if not option.help]
    assert not silent, f"{name} says nothing of {silent}"
