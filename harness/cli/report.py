"""``harness report``: a run directory in, its report out, from the files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import app
from harness.cli.console import out

__all__ = ["report"]


@app.command()
def report(
    run: Annotated[
        Path,
        typer.Argument(help="The folder of a run.", metavar="RUN", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A file that ends in .html gets the page alone; a folder gets a copy of the run with its"
            " report. [dim]\\[default: the run's own folder][/dim]",
            show_default=False,
        ),
    ] = None,
    anonymise: Annotated[
        bool,
        typer.Option(
            "--anonymise",
            help="Leave out host, user and paths, in the report and in a copy of the run.",
        ),
    ] = False,
) -> None:
    """Make the report of a run again, from its files alone.

    Writes summary.csv (one row a point), trials.csv (one row a trial), summary.json and
    index.html. No server, model or load generator is needed. The last line of the output is the
    path of the page.

    [bold]Examples[/bold]

      harness report reports/20260101T120000Z-quickstart

      harness report reports/20260101T120000Z-quickstart --output quickstart.html

      harness report reports/20260101T120000Z-quickstart --anonymise --output reports/example

    [bold]Exit codes[/bold]: 0 done; 2 not a readable run; 3 a file cannot be written.
    """
    from harness.analysis.contest import standings
    from harness.archive import open_run
    from harness.report import rebuild

    analysis, page = rebuild(open_run(run), output, anonymous=anonymise)
    for line in (*analysis.headlines(), *standings(analysis)):
        out.print(line, markup=False)
    out.print(str(page), markup=False)
