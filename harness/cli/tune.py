"""``harness tune``: hyper-parameters tried by cross-validation, and what each choice costs to serve."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import app
from harness.cli.console import note, out

if TYPE_CHECKING:
    from harness.models.journal import Journal
    from harness.models.settings import Settings
    from harness.models.tuning import Folds
    from harness.models.tuning_record import Spread, TuningRecord

__all__ = ["tune"]

JOURNAL = "fits.jsonl"


class Method(StrEnum):
    """How candidates are chosen."""

    GRID = "grid"
    RANDOM = "random"


@app.command()
def tune(
    *,
    network: Annotated[
        str | None,
        typer.Option(help="Networks to try.", show_default="see above"),
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="Batch sizes to try.", show_default="see above")
    ] = None,
    learning_rate: Annotated[
        str | None, typer.Option(help="Learning rates to try.", show_default="see above")
    ] = None,
    l1: Annotated[
        str | None, typer.Option(help="Weights of the L1 penalty to try.", show_default="see above")
    ] = None,
    l2: Annotated[
        str | None, typer.Option(help="Weights of the L2 penalty to try.", show_default="see above")
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(help="Numbers of epochs to try.", show_default="30")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="Try the whole grid, or draw --candidates at random.")
    ] = Method.GRID,
    candidates: Annotated[
        int, typer.Option(help="How many random candidates to draw.", show_default="12")
    ] = 12,
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.")] = 3,
    data: Annotated[
        str | None, typer.Option(help="The examples, as in harness train.", show_default="digits")
    ] = None,
    full_scale: Annotated[
        float | None,
        typer.Option(
            help="The value of a white pixel.",
            show_default="255 for whole numbers, 1 for fractions",
        ),
    ] = None,
    resize: Annotated[
        bool | None,
        typer.Option(
            "--resize/--no-resize",
            help="Bring images of another size to 28×28 instead of leaving them out.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seeds the split, the folds, the weights and the draws.", show_default="7"
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A YAML file with any of these settings, a list where several are tried."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of the results.")
    ] = Path("build/tuning"),
) -> None:
    """Find hyper-parameters by cross-validation, and weigh accuracy against the cost of serving.

    Several values are given with commas. Every combination is fitted once a fold and judged on the
    part held out; the test data is never touched. Without values eight candidates of four networks are
    tried (docs/models.md lists them), which takes about five minutes on two idle cores.

    Interrupted, the same command goes on after the last finished fit. The folder then holds tuning.json,
    a page, and best.yaml (and one for the best of each network), to be given to harness train.

    [bold]Examples[/bold]

      harness tune

      harness tune --network cnn --batch-size 32,64 --learning-rate 0.001,0.003 --folds 5

      harness tune --method random --candidates 20 --learning-rate 0.0003,0.03

      harness train --config build/tuning/best-cnn.yaml

    [bold]Exit codes[/bold]: 0 done; 2 bad data or settings; 3 TensorFlow missing or no room; 130
    interrupted (finished fits are kept).
    """
    values: dict[str, Any] = {}
    where: dict[str, str] = {}
    if config:
        from harness.models.settings import read_values

        values, where = read_values(config)
    options = {
        "network": _listed(network),
        "batch_size": _listed(batch_size),
        "learning_rate": _listed(learning_rate),
        "l1": _listed(l1),
        "l2": _listed(l2),
        "epochs": _listed(epochs),
        "data": data,
        "full_scale": full_scale,
        "resize": resize,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    where = {name: place for name, place in where.items() if name not in given}
    chosen = _candidates(values | given, where, method, candidates)
    _refuse_early_stopping(chosen, where)
    from harness.models.tuning_record import write_tuning
    from harness.report.tuning import write_tuning_page

    record = _tune(chosen, method, folds, output)
    write_tuning(record, output)
    write_tuning_page(output)
    _show(record, output)


def _listed(text: str | None) -> list[str] | None:
    """The values between commas."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _candidates(
    values: dict[str, Any], where: dict[str, str], method: Method, count: int
) -> list[Settings]:
    from harness.models.candidates import (
        AXES,
        TUNING_EPOCHS,
        default_grids,
        grid_candidates,
        random_candidates,
    )
    from harness.models.framework import require
    from harness.models.settings import resolve_settings

    require("sklearn", "PIL", "onnx", "onnxruntime")
    axes = {name: values[name] for name in AXES if isinstance(values.get(name), list)}
    single = {name: axes.pop(name)[0] for name in list(axes) if len(axes[name]) == 1}
    base = {"epochs": TUNING_EPOCHS}
    base |= {name: value for name, value in values.items() if name not in axes} | single
    if "epochs" in axes:
        del base["epochs"]
    grids = [axes] if axes else default_grids(base)
    if method is Method.GRID:
        return grid_candidates(base, grids, where)
    fixed = resolve_settings({"seed": base["seed"]} if "seed" in base else {}, where)
    return random_candidates(base, grids, count, fixed.seed, where)


def _refuse_early_stopping(candidates: list[Settings], where: dict[str, str]) -> None:
    """A fit that stops early needs examples to watch, and those that are held out judge it."""
    from harness.errors import UsageError

    if any(candidate.early_stopping for candidate in candidates):
        raise UsageError(
            "early_stopping would watch the examples that judge a candidate, so tuning does without it",
            where=where.get("early_stopping"),
            remedy="Take it out and try several numbers of epochs, or give it to harness train",
        )


def _tune(candidates: list[Settings], method: Method, folds: int, output: Path) -> TuningRecord:
    from harness.cli.train import prepare
    from harness.errors import UsageError
    from harness.models.framework import load_keras
    from harness.models.journal import open_journal
    from harness.models.record import package_versions
    from harness.models.serving_cost import measure_costs
    from harness.models.tuning import make_folds, rank
    from harness.models.tuning_record import TuningRecord

    if not 2 <= folds <= 100:
        raise UsageError(f"expected 2 to 100 folds, got {folds}", where="--folds")
    started = time.monotonic()
    seed = candidates[0].seed
    examples = prepare(candidates[0])
    parts = make_folds(examples, folds, seed)
    with note.status("loading TensorFlow"):
        load_keras()
    with open_journal(output / JOURNAL) as journal:
        figures, reused = _cross_validate(candidates, parts, journal)
    networks = sorted({candidate.network for candidate in candidates})
    with note.status("measuring what serving costs"):
        costs = measure_costs(networks, len(examples.classes), seed)
    return TuningRecord(
        created_utc=datetime.now(UTC),
        method=method.value,
        data={
            "name": examples.name,
            "rows": examples.rows,
            "dropped": examples.dropped,
            "classes": len(examples.classes),
        },
        folds=folds,
        seed=seed,
        fits=len(candidates) * folds,
        reused_fits=reused,
        duration_s=round(time.monotonic() - started, 1),
        cores=len(os.sched_getaffinity(0)),
        packages=package_versions(),
        candidates=rank(candidates, figures, costs),
    )


def _cross_validate(
    candidates: list[Settings], folds: Folds, journal: Journal
) -> tuple[list[list[dict[str, float]]], int]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from harness.models.tuning import FitProgress, cross_validate

    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[last]}"),
    )
    total = len(candidates) * len(folds.rows)
    note.print(f"{len(candidates)} candidates × {len(folds.rows)} folds = {total} fits")
    known = len(journal.entries)
    with Progress(*columns, console=note, transient=True, disable=not note.is_terminal) as bar:
        task = bar.add_task("", total=total, left="", last="the first fit")

        def show(progress: FitProgress) -> None:
            minutes, seconds = divmod(round(progress.remaining_s), 60)
            left = f"{minutes}:{seconds:02d} left"
            bar.update(task, completed=progress.done, left=left, last=progress.last)
            if not note.is_terminal and progress.done % 10 == 0:
                note.print(f"{progress.done}/{progress.planned} fits, {left}; {progress.last}")

        try:
            return cross_validate(candidates, folds, journal, show)
        except KeyboardInterrupt:
            done = len(journal.entries) - known
            note.print(f"{done} more fits are kept; the same command goes on after them")
            raise


def _percent(figure: Spread) -> str:
    return f"{figure.mean * 100:.1f} ± {figure.std * 100:.1f}"


TITLES = "  network   batch    rate      L1      L2  epochs     accuracy       recall           F1"


def _show(record: TuningRecord, output: Path) -> None:
    out.print(f"{TITLES}       ms  images/s", markup=False)
    for result in record.candidates:
        settings, cost = result.settings, result.cost
        out.print(
            f"{'*' if result.front else ' '} {settings.network:<9} {settings.batch_size:>5}"
            f" {settings.learning_rate:>7g} {settings.l1:>7g} {settings.l2:>7g} {settings.epochs:>7}"
            f" {_percent(result.accuracy):>12} {_percent(result.recall_macro):>12}"
            f" {_percent(result.f1_macro):>12} {cost.latency_ms:>8.3f} {cost.throughput:>9,.0f}",
            markup=False,
        )
    near = sum(result.near_best for result in record.candidates) - 1
    minutes, seconds = divmod(round(record.duration_s), 60)
    lines = [
        f"in %, mean ± standard deviation over {record.folds} folds; recall and F1 are macro means",
        "ms: one image on one thread; images/s: batches of 32; *: on the front of accuracy and ms",
        f"{near} more within one standard error of the best",
        f"{record.fits} fits in {minutes} min {seconds:02d} s"
        + (f", {record.reused_fits} of them done before" if record.reused_fits else ""),
    ]
    for line in lines:
        out.print(line, markup=False)
    out.print(str(output / "best.yaml"), markup=False)
