"""The page of the studies: what batch size, learning rate and penalties do.

Made from ``batch-size.json``, ``learning-rate.json`` and ``regularisation.json``, those that are there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.report.curves import Axis, Curve, curve_panel
from harness.report.formats import duration, number
from harness.report.model_page import ModelPage, Section, Table, read_json, write_model_page
from harness.report.style import SERIES
from harness.report.svg import StyleSheet
from harness.report.training import made_with, percent_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["write_study_page"]

MIB = 2**20


def write_study_page(folder: Path) -> Path:
    """Write ``index.html`` beside the studies' files and return its path.

    Raises:
        UsageError: the folder holds no study, or one that cannot be read.
        EnvironmentFailedError: the page cannot be written.
    """
    remedy = "Measure with harness study"
    records = {
        name: read_json(folder / f"{name}.json", remedy)
        for name in SECTIONS
        if (folder / f"{name}.json").exists()
    }
    if not records:
        raise UsageError("holds no study", where=str(folder), remedy=remedy)
    sheet = StyleSheet()
    networks = " and ".join(dict.fromkeys(each["settings"]["network"] for each in records.values()))
    page = ModelPage(
        eyebrow="Studies",
        title=f"What it takes to train {networks}",
        lede="Trade-offs of training, measured on this machine. One thing is varied at a time.",
        figures=(),
        sections=[SECTIONS[name](record, sheet) for name, record in records.items()],
        facts=[
            *(_fact(name, record) for name, record in records.items()),
            *made_with(next(iter(records.values()))),
        ],
    )
    return write_model_page(folder / "index.html", page, sheet)


def _batch_size(record: dict[str, Any], sheet: StyleSheet) -> Section:
    rows = record["rows"]
    sizes = [row["batch_size"] for row in rows]
    seconds = Curve(
        "epoch",
        0,
        sizes,
        [row["epoch_s"] for row in rows],
        [(row["epoch_s_low"], row["epoch_s_high"]) for row in rows],
    )
    memory = Curve("peak memory", 1, sizes, [row["peak_bytes"] / MIB for row in rows])
    accuracy = Curve("accuracy", 2, sizes, [row["accuracy"] * 100 for row in rows])
    x = Axis("batch size", "doubling")
    epochs = record["settings"]["epochs"]
    panels = [
        curve_panel(
            [seconds],
            x,
            Axis("seconds an epoch", from_zero=True),
            sheet,
            name="batch-seconds",
            title="Time",
            subtitle="median of the epochs, with the fastest and the slowest",
        ),
        curve_panel(
            [memory],
            x,
            Axis("peak memory, MiB"),
            sheet,
            name="batch-memory",
            title="Memory",
            subtitle="of the whole process; the axis does not start at zero",
        ),
        curve_panel(
            [accuracy],
            x,
            Axis("accuracy, %"),
            sheet,
            name="batch-accuracy",
            title="Accuracy",
            subtitle=f"on the test data after {epochs} epochs",
        ),
    ]
    columns = [
        ("batch size", ""),
        ("epoch", "s"),
        ("peak memory", "MiB"),
        ("of it the fit", "MiB"),
        ("accuracy", "%"),
    ]
    cells = [
        (
            f"{row['batch_size']}",
            number(float(row["epoch_s"])),
            f"{row['peak_bytes'] / MIB:,.0f}",
            f"{row['fit_bytes'] / MIB:,.0f}",
            percent_of(row["accuracy"]),
        )
        for row in rows
    ]
    return Section(
        "Batch size",
        "Larger batches need fewer steps, so an epoch is faster up to a point, and more memory, since"
        " more activations are alive at once. With the same number of epochs they also mean fewer"
        " steps of learning. Each fit ran in a process of its own.",
        panels,
        table=Table("By batch size", columns, cells),
    )


def _learning_rate(record: dict[str, Any], sheet: StyleSheet) -> Section:
    rows = record["rows"]
    places = {row["learning_rate"]: place % len(SERIES) for place, row in enumerate(rows)}
    panels = []
    for key, title in (
        ("cross_entropy", "Training data"),
        ("val_cross_entropy", "Validation data"),
    ):
        curves = [
            Curve(
                f"learning rate {row['learning_rate']:g}",
                places[row["learning_rate"]],
                [epoch["epoch"] for epoch in row["history"]],
                [epoch[key] for epoch in row["history"]],
            )
            for row in rows
        ]
        panels.append(
            curve_panel(
                curves,
                Axis("epoch"),
                Axis("cross-entropy, nats", "log"),
                sheet,
                name=f"rate-{key.replace('_', '-')}",
                title=title,
            )
        )
    return Section(
        "Learning rate",
        "Too low, and the loss crawls; too high, and it jumps about or never comes down. It is said to"
        " crawl where it falls nearly all the time and yet ends above half of a blind guess’s, not to"
        " learn where it ends there otherwise, and to oscillate where its rises together undo a"
        " factor of 1.65.",
        panels,
        [
            (places[row["learning_rate"]], f"{row['learning_rate']:g}: {row['curve']}")
            for row in rows
        ],
    )


def _regularisation(record: dict[str, Any], sheet: StyleSheet) -> Section:
    panels = []
    highest = max(epoch["val_cross_entropy"] for row in record["rows"] for epoch in row["history"])
    for place, row in enumerate(record["rows"]):
        epochs = [epoch["epoch"] for epoch in row["history"]]
        curves = [
            Curve(part, number_, epochs, [epoch[key] for epoch in row["history"]])
            for number_, (part, key) in enumerate(
                (("training", "cross_entropy"), ("validation", "val_cross_entropy"))
            )
        ]
        panels.append(
            curve_panel(
                curves,
                Axis("epoch"),
                Axis("cross-entropy, nats", from_zero=True, highest=highest),
                sheet,
                name=f"penalty-{place}",
                title=_penalty(row),
                subtitle=f"gap {number(row['gap'])} ± {number(row['gap_std'], row['gap'])} nats",
            )
        )
    columns = [
        ("penalty", ""),
        ("gap", "nats"),
        ("training accuracy", "%"),
        ("validation accuracy", "%"),
    ]
    cells = [
        (
            _penalty(row),
            f"{number(row['gap'])} ± {number(row['gap_std'], row['gap'])}",
            f"{percent_of(row['accuracy'])} ± {percent_of(row['accuracy_std'])}",
            f"{percent_of(row['val_accuracy'])} ± {percent_of(row['val_accuracy_std'])}",
        )
        for row in record["rows"]
    ]
    data, seeds = record["data"], record["rows"][0]["seeds"]
    return Section(
        "L1 and L2",
        f"Trained on only {data['train']:,} examples and watched on {data['held_out']:,}, so that the"
        " network can learn them by heart. The gap is the cross-entropy of the validation data less"
        f" that of the training data after the last epoch, penalties left out: mean ± standard"
        f" deviation over {seeds} seeds; the curves are of the first.",
        panels,
        [(0, "training"), (1, "validation")],
        Table("By penalty", columns, cells),
    )


def _penalty(row: dict[str, Any]) -> str:
    named = [f"{name.upper()} {row[name]:g}" for name in ("l1", "l2") if row[name]]
    return " and ".join(named) or "No penalty"


SECTIONS: dict[str, Callable[[dict[str, Any], StyleSheet], Section]] = {
    "batch-size": _batch_size,
    "learning-rate": _learning_rate,
    "regularisation": _regularisation,
}


def _fact(name: str, record: dict[str, Any]) -> tuple[str, str]:
    settings, data = record["settings"], record["data"]
    took = duration(timedelta(seconds=record["duration_s"]))
    text = (
        f"{settings['network']} on {data['name']}, {data['train']:,} examples for training;"
        f" unless varied: batches of {settings['batch_size']}, learning rate"
        f" {settings['learning_rate']:g}, {settings['epochs']} epochs, L1 {settings['l1']:g},"
        f" L2 {settings['l2']:g}, seed {settings['seed']}; {took} on {record['cores']} cores"
    )
    return name.replace("-", " ").capitalize(), text
