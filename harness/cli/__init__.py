"""The ``harness`` command: one module a verb, and the only place that prints or exits.

Heavy libraries are imported inside the functions that use them, so that ``harness --help`` answers at
once.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import click
import typer

from harness import __version__
from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    name="harness",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"harness {__version__}")  # noqa: T201 - the console is not loaded for this
        raise typer.Exit


@app.callback()
def harness(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Find out how a model should be served by Triton Inference Server, and what it will hold."""


def _terminate(_signum: int, _frame: FrameType | None) -> NoReturn:
    """Treat SIGTERM as Ctrl-C: everything is ended in order."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its code: 0, 1, 2, 3, 4 or 130 (see ``docs/exit-codes.md``)."""
    from harness.cli import verbs  # noqa: F401 - registers the commands on the app

    signal.signal(signal.SIGTERM, _terminate)
    command = typer.main.get_command(app)
    try:
        code = command.main(
            args=None if arguments is None else list(arguments), standalone_mode=False
        )
    except HarnessError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(sentence: str) -> None:
    from rich.text import Text

    from harness.cli.console import note

    note.print(Text("error: ", style="bold red") + Text(sentence, style="default"))
