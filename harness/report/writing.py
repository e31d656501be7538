"""The files of a report, from an analysis or from a run directory alone."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis import analyse
from harness.archive import RunDirectory, whole_file
from harness.errors import NothingMeasuredError, UsageError
from harness.report.copying import copy_run
from harness.report.nothing import nothing_measured
from harness.report.page import render_page
from harness.report.summary import summary

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.results import Analysis

__all__ = ["rebuild", "write_report"]

# More digits than any measurement has, and none of floating point's own.
FLOATS = "%.9g"


def write_report(run: RunDirectory, analysis: Analysis) -> Path:
    """Write ``summary.csv``, ``trials.csv``, ``summary.json`` and ``index.html`` into the run.

    Each appears whole or not at all; the same analysis gives the same bytes.

    Returns:
        The path of ``index.html``.

    Raises:
        EnvironmentFailedError: a file cannot be written.
    """
    _write_table(run.path / "summary.csv", analysis.points)
    _write_table(run.path / "trials.csv", analysis.trials)
    text = json.dumps(summary(analysis), indent=1, allow_nan=False, ensure_ascii=False)
    _write(run.path / "summary.json", f"{text}\n")
    return write_page(run.path / "index.html", analysis)


def write_page(path: Path, analysis: Analysis) -> Path:
    """Write the page alone."""
    _write(path, render_page(analysis))
    return path


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as partial:
        table.to_csv(partial, index=False, float_format=FLOATS, lineterminator="\n")


def rebuild(
    run: RunDirectory, output: Path | None = None, *, anonymous: bool = False
) -> tuple[Analysis, Path]:
    """Analyse a run anew from its files, and write its report.

    Args:
        run: the run.
        output: a file that ends in ``.html`` gets the page alone; a folder gets a copy of the run with its
            report; ``None`` means the run's own folder.
        anonymous: leave out host, user and paths, in the report and in a copy of the run.

    Returns:
        The analysis, and the path of the page.

    Raises:
        UsageError: the run is unreadable, or ``output`` cannot be used.
        EnvironmentFailedError: a file cannot be written.
    """
    _refuse_lost_trials(run)
    page = output if output is not None and output.suffix.lower() in {".html", ".htm"} else None
    if page is None and output is not None:
        copied = copy_run(run, output, anonymous=anonymous)
        analysis = analysis_of(copied)
        return analysis, write_report(copied, analysis)
    if anonymous:
        # What an analysis never sees, no report can show.
        with tempfile.TemporaryDirectory(prefix="harness-report-") as folder:
            analysis = analysis_of(copy_run(run, Path(folder), anonymous=True))
    else:
        analysis = analysis_of(run)
    return analysis, write_page(page, analysis) if page else write_report(run, analysis)


def analysis_of(run: RunDirectory) -> Analysis:
    """Analyse ``run``; one that ended before anything was measured has an analysis too, an empty one."""
    try:
        return analyse(run)
    except NothingMeasuredError:
        return nothing_measured(run.record())


def _refuse_lost_trials(run: RunDirectory) -> None:
    """A complete run has trials; where none is there, its folder was copied without them."""
    record = run.record()
    if record.status == "complete" and record.planned_trials and not run.trials():
        raise UsageError(
            f"the run is complete with {record.planned_trials} trials, and none of them is here",
            where=str(run.path / "trials"),
            remedy="Copy the run again, with all that lies in its folder",
        )
