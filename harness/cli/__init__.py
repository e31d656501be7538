"""The ``harness`` command: one module a verb, and the only place that prints or exits.

Heavy libraries are imported inside the functions that use them, so that ``harness --help`` answers at
once.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from harness import __version__
from harness.errors import HarnessError, InterruptedRunError
from harness.interrupt import interrupted, take_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app", "main"]

INTERRUPTED = InterruptedRunError.exit_code
OURS = HarnessError.exit_code  # of a mistake of ours, which shows its traceback


class Interruptible(TyperGroup):
    """Commands that say so when they are interrupted; Typer's own end without a word."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's context is click's, bundled or not
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise InterruptedRunError("interrupted") from interrupt
        except ImportError as error:
            # NumPy, when it is interrupted while it is loaded, says that it cannot be.
            if interrupted():
                raise InterruptedRunError("interrupted") from error
            raise


app = typer.Typer(
    name="harness",
    cls=Interruptible,
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


def _run(arguments: Sequence[str] | None) -> int:
    """Run the command, tell how it ended, and return its code."""
    try:
        app(None if arguments is None else list(arguments), prog_name="harness")
    except HarnessError as error:
        from harness.cli.console import complain

        complain(str(error))
        return error.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # noqa: BLE001 - Python would end with 1, which means an SLO that is not met
        traceback.print_exc()
        return OURS
    return 0


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its code: 0, 1, 2, 3, 4 or 130 (see ``docs/exit-codes.md``)."""
    from harness.cli import verbs  # noqa: F401 - registers the commands on the app

    take_signals()
    try:
        code = _run(arguments)
    except (
        KeyboardInterrupt
    ):  # before a command has begun, after it has ended, or while its end is told
        code = INTERRUPTED
    if interrupted():
        # ``python -m`` ends itself with SIGINT instead of a code where an interrupt, caught or not, came
        # through code in a string, such as the methods of a dataclass, also at its very end
        # (``run_eval_code_obj`` in ``pythonrun.c``).
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
