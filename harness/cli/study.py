"""``harness study``: what batch size, learning rate and penalties do, measured and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import app
from harness.cli.console import note, out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

    from harness.models.studies import StudyRecord

__all__ = ["study"]


@app.command()
def study(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            help="batch-size, learning-rate, regularisation; several or all.",
            metavar="STUDY",
            show_default="all of them",
        ),
    ] = None,
    *,
    network: Annotated[str | None, typer.Option(help="The network.", show_default="cnn")] = None,
    data: Annotated[
        str | None, typer.Option(help="The examples, as in harness train.", show_default="digits")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs of each fit.",
            show_default="4 by batch size, 12 by learning rate, 40 by penalty",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seeds the split, the weights and the order.", show_default="7"),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of the results.")
    ] = Path("build/studies"),
) -> None:
    """Measure the trade-offs of training and show them on a page.

    [bold]batch-size[/bold]: seconds an epoch and peak memory, each fit in a process of its own.
    [bold]learning-rate[/bold]: loss curves; too high oscillates, too low crawls.
    [bold]regularisation[/bold]: the gap between training and validation loss with and without L1 and L2,
    on few examples.

    All three take about four minutes on two cores.

    [bold]Examples[/bold]

      harness study

      harness study batch-size --network cnn_wide

    [bold]Exit codes[/bold]: 0 done; 2 bad data or settings; 3 TensorFlow missing or no room; 130
    interrupted (finished studies are kept).
    """
    from harness.archive import whole_file
    from harness.report.study import write_study_page

    options = {"network": network, "data": data, "epochs": epochs, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    for record in _run(studies or [], given, output):
        with whole_file(output / f"{record.study}.json") as file:
            file.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        _show(record)
    out.print(str(write_study_page(output)), markup=False)


def _run(names: list[str], given: dict[str, Any], output: Path) -> Iterator[StudyRecord]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from harness.cli.train import prepare
    from harness.folder import make_folder
    from harness.models.framework import load_keras, require
    from harness.models.settings import resolve_settings
    from harness.models.studies import DEFAULTS, STUDIES, check_study, run_study
    from harness.networks import check_network

    names = names or list(STUDIES)
    for name in names:
        check_study(name)
    settings = {name: resolve_settings(DEFAULTS[name] | given) for name in names}
    for name, chosen in settings.items():
        check_study(name, chosen.epochs)
    first = next(iter(settings.values()))
    check_network(first.network)
    require("sklearn", "PIL")
    examples = prepare(first)
    make_folder(output)
    with note.status("loading TensorFlow"):
        load_keras()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[now]}"),
    )
    for name, chosen in settings.items():
        with Progress(*columns, console=note, transient=True, disable=not note.is_terminal) as bar:
            show = _shower(bar, bar.add_task(name, total=None, now=""))
            record = run_study(name, chosen, examples, show)
        yield record


def _shower(bar: Progress, task: TaskID) -> Callable[[int, int, str], None]:
    def show(done: int, planned: int, now: str) -> None:
        bar.update(task, completed=done, total=planned, now=now)

    return show


def _show(record: StudyRecord) -> None:
    lines = {
        "batch-size": lambda row: (
            f"  {row['batch_size']:>4}  {row['epoch_s']:.2f} s an epoch,"
            f" {row['peak_bytes'] / 2**20:,.0f} MiB at the peak, accuracy {row['accuracy']:.3f}"
        ),
        "learning-rate": lambda row: (
            f"  {row['learning_rate']:<7g} {row['curve']}: cross-entropy"
            f" {row['history'][-1]['val_cross_entropy']:.3f} after {len(row['history'])} epochs"
        ),
        "regularisation": lambda row: (
            f"  L1 {row['l1']:<7g} L2 {row['l2']:<7g} gap {row['gap']:.3f} ± {row['gap_std']:.3f},"
            f" validation accuracy {row['val_accuracy']:.3f} ± {row['val_accuracy_std']:.3f}"
        ),
    }
    out.print(f"{record.study} ({record.duration_s:.0f} s)", markup=False)
    for row in record.rows:
        out.print(lines[record.study](row), markup=False)
