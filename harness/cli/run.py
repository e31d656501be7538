"""``harness run``: a scenario in, a run directory and its report out."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import INTERRUPTED, app
from harness.cli.console import complain, duration, note, out
from harness.cli.fetching import fetch_image
from harness.errors import HarnessError, InterruptedRunError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from harness.archive import RunDirectory
    from harness.experiment import Plan, Progress

__all__ = ["run"]


@app.command()
def run(
    scenario: Annotated[
        Path,
        typer.Argument(help="The scenario, a YAML file.", metavar="SCENARIO", show_default=False),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and the estimate, and start nothing.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 where a workload does not meet the SLO.")
    ] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where run directories are made.")
    ] = Path("reports"),
    models: Annotated[
        Path, typer.Option("--models", help="The model repository that export wrote.")
    ] = Path("triton_models"),
) -> None:
    """Measure a scenario on a real Triton and report the best configuration.

    Shows the plan first, then a bar with the time left and the last result. Ctrl-C ends it in order:
    what was measured is kept and reported. The last line of the output is the path of the report.

    [bold]Examples[/bold]

      harness run scenarios/quickstart.yaml --dry-run

      harness run scenarios/quickstart.yaml

      harness run scenarios/quickstart.yaml --check && echo "meets the SLO"

    [bold]Exit codes[/bold]: 0 done; 1 the SLO not met (with --check); 2 a bad scenario; 3 the environment
    failed; 4 wrong answers or no valid point; 130 interrupted.
    """
    from harness.archive import create_run
    from harness.experiment import make_plan
    from harness.scenario import read_scenario

    parsed, text = read_scenario(scenario)
    plan = make_plan(parsed, text, models, str(scenario))
    _show_plan(plan)
    if dry_run:
        return
    if parsed.server.kind == "container":
        fetch_image(parsed.server)
    directory = create_run(output, parsed.name)
    code = _measure(plan, directory)
    raise typer.Exit(_conclude(directory, code, check=check))


def _show_plan(plan: Plan) -> None:
    scenario, measure = plan.scenario, plan.scenario.measure
    configurations = {point.configuration.key for point in plan.points}
    workloads = {point.workload.key for point in plan.points}
    note.print(
        f"[bold]{scenario.name}[/bold]: {', '.join(plan.models)} on {scenario.server.kind} Triton"
    )
    levels = len(plan.points) // len(configurations) // len(workloads)
    note.print(
        f"  {_counted(len(configurations), 'server configuration')}"
        f" × {_counted(len(workloads), 'workload')} × {_counted(levels, 'load level')}"
        f" = {_counted(len(plan.points), 'point')}"
    )
    passes = str(measure.passes)
    if measure.target:
        aims = ", ".join(f"{name} ±{aim * 100:g} %" for name, aim in measure.target.items())
        longest = f", within {duration(measure.max_time_s)}" if measure.max_time_s else ""
        passes += f" to {measure.most_passes} (until {aims}{longest})"
    lengths = sorted({point.load.duration_s or measure.window_s for point in plan.points})
    windows = " to ".join(f"{length:g} s" for length in dict.fromkeys([lengths[0], lengths[-1]]))
    noun = "pass" if passes == "1" else "passes"
    trials = _counted(len(plan.trials), "trial")
    note.print(f"  {passes} {noun} of {windows} windows, {trials}")
    note.print(f"  about {duration(plan.estimate_s)}")
    for said in plan.notes:
        note.print(f"  {said}", markup=False)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _measure(plan: Plan, directory: RunDirectory) -> int:
    """Run the plan under a progress bar; return the exit code so far. Errors keep what was measured."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.progress import Progress as Bar

    from harness.experiment import run_experiment

    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[last]}"),
    )
    with Bar(*columns, console=note, transient=True) as bar:
        task = bar.add_task("", total=len(plan.trials), left="", last="starting the server")

        def show(progress: Progress) -> None:
            _show(bar, task, progress)

        try:
            run_experiment(plan, directory, command=tuple(sys.argv), on_progress=show)
        except InterruptedRunError as interrupt:
            if not _measured(directory):
                raise InterruptedRunError(
                    "interrupted before anything was measured", where=str(directory.path)
                ) from interrupt
            note.print("interrupted: what was measured is kept")
            return INTERRUPTED
        except HarnessError as error:
            if not _measured(directory):
                raise
            complain(str(error))
            return error.exit_code
    return 0


def _measured(directory: RunDirectory) -> bool:
    """Whether there is a trial to report."""
    from harness.records import any_point

    return any_point(directory.trials())


def _show(bar: Bar, task: TaskID, progress: Progress) -> None:
    minutes, seconds = divmod(round(progress.remaining_s), 60)
    record = progress.trial
    last = f"{record.point.key}: "
    if record.failure is None:
        last += f"{progress.throughput:,.0f} inferences/s"
        if not math.isnan(progress.p99_ms):  # enough right answers
            last += f", p99 {progress.p99_ms:.1f} ms"
    else:
        last += "failed"
    bar.update(
        task,
        completed=progress.done,
        total=progress.planned,
        left=f"{minutes}:{seconds:02d} left",
        last=last,
    )
    if not note.is_terminal and progress.done % 20 == 0:
        note.print(
            f"{progress.done}/{progress.planned} trials, {minutes}:{seconds:02d} left; {last}"
        )


def _conclude(directory: RunDirectory, code: int, *, check: bool) -> int:
    """Analyse and report what was measured; the last line printed is the report's path."""
    from harness.analysis import analyse
    from harness.analysis.contest import standings
    from harness.report import write_report

    analysis = analyse(directory)
    page = write_report(directory, analysis)
    for line in (*analysis.headlines(), *standings(analysis)):
        out.print(line, markup=False)
    out.print(str(page), markup=False)
    if code:
        return code
    if analysis.exit_code:
        return analysis.exit_code
    return 1 if check and not analysis.meets_slo else 0
