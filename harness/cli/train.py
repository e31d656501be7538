"""``harness train``: data in, a trained network with everything that export needs out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import app
from harness.cli.console import note, out
from harness.networks import NETWORKS, check_network

if TYPE_CHECKING:
    from harness.models.dataset import Dataset, Split
    from harness.models.record import TrainingRecord
    from harness.models.settings import Settings
    from harness.models.training import Trained

__all__ = ["train"]


@app.command()
def train(
    *,
    network: Annotated[
        str | None,
        typer.Option(
            help=f"The network, one of {', '.join(NETWORKS)}; cnn is the reference.",
            show_default="cnn",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="The examples: digits (needs no download), mnist, fashion-mnist, an .npz file with"
            " x and y, or a folder with one subfolder of images a class.",
            show_default="digits",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training data.", show_default="5")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Examples in one training step.", show_default="64")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Adam's learning rate.", show_default="0.001")
    ] = None,
    l1: Annotated[
        float | None, typer.Option(help="Weight of the L1 penalty.", show_default="0")
    ] = None,
    l2: Annotated[
        float | None, typer.Option(help="Weight of the L2 penalty.", show_default="0")
    ] = None,
    early_stopping: Annotated[
        bool | None,
        typer.Option(
            "--early-stopping/--no-early-stopping",
            help="Stop once the validation loss has not fallen for --patience epochs.",
            show_default=False,
        ),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs that early stopping waits.", show_default="3")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seeds the split, the weights and the order.", show_default="7"),
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
    config: Annotated[
        Path | None,
        typer.Option(
            help="A YAML file with any of these settings, such as the best.yaml that harness tune"
            " writes; options win over it."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The model's folder.", show_default="build/models/<network>"
        ),
    ] = None,
) -> None:
    """Train a network and save all that serving it needs.

    Without options it is the reference network: 28×28×1 images, ten classes, three convolutions,
    93,322 parameters, Adam, five epochs in batches of 64, on handwritten digits that come with
    scikit-learn. 70 % of the examples are learnt from, 10 % watched, 20 % held back for the test.

    The folder appears whole, or not at all: model.keras, model.onnx, saved_model/, reference.npz (test
    images with Keras' answers), training.json (how it was made) and index.html (curves, confusion
    matrix, figures by class). The same seed gives the same figures on the same machine.

    [bold]Examples[/bold]

      harness train

      harness train --network gru --epochs 15 --learning-rate 0.003

      harness train --data my.npz --early-stopping --epochs 50

      harness train --config build/tuning/best-cnn.yaml

    [bold]Exit codes[/bold]: 0 done; 2 bad data or settings; 3 TensorFlow missing or no room; 130
    interrupted (nothing is left behind).
    """
    from harness.models.settings import read_settings, resolve_settings

    options = {
        "network": network,
        "data": data,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "l1": l1,
        "l2": l2,
        "early_stopping": early_stopping,
        "patience": patience,
        "seed": seed,
        "full_scale": full_scale,
        "resize": resize,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    settings = read_settings(config, given) if config else resolve_settings(given)
    _train(settings, output or Path("build/models") / settings.network)


def _train(settings: Settings, folder: Path) -> None:
    from harness.folder import check_replaceable
    from harness.models.dataset import split
    from harness.models.framework import load_keras, require
    from harness.models.record import RECORD, write_model
    from harness.report.training import write_training_page

    check_network(settings.network)
    check_replaceable(folder, RECORD)
    require("sklearn", "PIL", "onnx", "onnxruntime")
    parts = split(prepare(settings), settings.seed)
    with note.status("loading TensorFlow"):
        load_keras()
    trained = _fit(settings, parts)
    with note.status("writing the model"):
        record = write_model(folder, settings, parts, trained, finish=write_training_page)
    _show(record, folder)


def prepare(settings: Settings) -> Dataset:
    """Read and clean the data, and say what was left out."""
    from harness.models.dataset import REASONS, clean
    from harness.models.sources import read_source

    data = clean(read_source(settings.data, full_scale=settings.full_scale, resize=settings.resize))
    for reason, count in data.dropped.items():
        note.print(f"left out {count} of {data.rows} examples: {REASONS[reason]}", markup=False)
    return data


def _fit(settings: Settings, parts: Split) -> Trained:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.models.training import train_network

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=note, transient=True, disable=not note.is_terminal) as bar:
        task = bar.add_task(f"training {settings.network}", total=None, state="")

        def show(done: int, total: int, state: str) -> None:
            bar.update(task, completed=done, total=total, state=state)

        return train_network(settings, parts.train, parts.validation, show)


def _show(record: TrainingRecord, folder: Path) -> None:
    test, data, epochs = record.metrics["test"], record.data, len(record.history)
    lines = [
        f"{record.model}: {record.parameters:,} parameters, trained on {data['name']}",
        f"  {epochs} epoch{'' if epochs == 1 else 's'} in {record.duration_s:.1f} s",
        f"  {data['train']} examples learnt from, {data['validation']} watched, {data['test']} tested",
        f"  accuracy      {test['accuracy']:.4f}",
        f"  macro recall  {test['recall_macro']:.4f}",
        f"  macro F1      {test['f1_macro']:.4f}",
        f"  ONNX differs from Keras by at most {record.parity['model.onnx']:.1e}",
        str(folder),
    ]
    for line in lines:
        out.print(line, markup=False)
