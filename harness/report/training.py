"""The page of a trained model: training curves, confusion matrix, figures by class.

Made from ``training.json`` in the model's folder alone.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from matplotlib.patches import Rectangle

from harness.report.curves import Axis, Curve, curve_panel
from harness.report.formats import duration, number
from harness.report.model_page import (
    Headline,
    ModelPage,
    Section,
    Table,
    read_json,
    write_model_page,
)
from harness.report.panels import Panel
from harness.report.style import HEAT, INK, ON, caption, look, panel
from harness.report.svg import StyleSheet, inline_svg

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

__all__ = ["made_with", "percent_of", "write_training_page"]

# Beyond this many classes a confusion matrix is no picture any more.
MOST_CLASSES = 30
MOST_NUMBERED = 20
CELL_IN = 0.34
PARTS = ((0, "training", ""), (1, "validation", "val_"))


def write_training_page(folder: Path) -> Path:
    """Write ``index.html`` into the folder of a trained model and return its path.

    Raises:
        UsageError: the folder holds no ``training.json`` that can be read.
        EnvironmentFailedError: the page cannot be written.
    """
    record = read_json(folder / "training.json", "Train a model with harness train")
    sheet = StyleSheet()
    test, data = record["metrics"]["test"], record["data"]
    taken = duration(timedelta(seconds=record["duration_s"]))
    page = ModelPage(
        eyebrow="Trained network",
        title=f"{record['model']} is right in {percent_of(test['accuracy'])} % of the tests",
        lede=(
            f"{record['parameters']:,} parameters, trained for {len(record['history'])} epochs"
            f" in {taken} on {data['name']}. All figures are of the {data['test']:,} test examples, which the network"
            " has not learnt from."
        ),
        figures=[
            Headline("accuracy", percent_of(test["accuracy"]), "%"),
            Headline("macro recall", percent_of(test["recall_macro"]), "%"),
            Headline("macro F1", percent_of(test["f1_macro"]), "%"),
            Headline("cross-entropy", number(float(test["loss"])), "nats"),
        ],
        sections=[_curves(record, sheet), _confusion(record, sheet), _classes(record)],
        facts=_facts(record),
    )
    return write_model_page(folder / "index.html", page, sheet)


def percent_of(share: float) -> str:
    """A share in per cent, with a tenth."""
    return f"{share * 100:.1f}"


def _curves(record: dict[str, Any], sheet: StyleSheet) -> Section:
    history = record["history"]
    panels = []
    for key, label, axis in (
        ("cross_entropy", "cross-entropy, nats", Axis("cross-entropy, nats", from_zero=True)),
        ("accuracy", "accuracy", Axis("accuracy, %")),
    ):
        scale = 100 if key == "accuracy" else 1
        curves = [
            Curve(
                name,
                place,
                [row["epoch"] for row in history],
                [row[prefix + key] * scale for row in history],
            )
            for place, name, prefix in PARTS
            if prefix + key in history[0]
        ]
        title = label.partition(",")[0].capitalize()
        panels.append(
            curve_panel(curves, Axis("epoch"), axis, sheet, name=f"curve-{key}", title=title)
        )
    return Section(
        "Training curves",
        "Of the training data these are means over each epoch, while the weights move; of the"
        " validation data, what holds at its end. Penalties are left out.",
        panels,
        [(place, name) for place, name, prefix in PARTS if f"{prefix}accuracy" in history[0]],
    )


def _confusion(record: dict[str, Any], sheet: StyleSheet) -> Section:
    names, counts = record["classes"], record["confusion"]
    wrong = sum(sum(row) - row[place] for place, row in enumerate(counts))
    total = sum(map(sum, counts))
    lead = f"Examples by true and predicted class: {wrong:,} of {total:,} are off the diagonal."
    if len(names) > MOST_CLASSES:
        note = f"With {len(names)} classes there is no picture; training.json has the numbers."
        return Section("Confusion matrix", lead, [Panel("All classes", "", None, (note,))])
    size_in = CELL_IN * len(names)
    with look():
        figure, axes = panel(
            size_in + 0.86, width_in=size_in + 1.3, left_in=1.1 if _wordy(names) else 0.5
        )
        for true, row in enumerate(counts):
            for predicted, count in enumerate(row):
                if count:
                    _cell(axes, (predicted, true), count, count / (sum(row) or 1), len(names))
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks(
            range(len(names)),
            [name[:3] if _wordy(names) else name for name in names],
        )
        axes.set_yticks(range(len(names)), [name[:12] for name in names])
        axes.set_xlabel("predicted")
        caption(axes, "true")
        svg = inline_svg(
            figure,
            sheet,
            name="confusion",
            title="Confusion matrix of the test examples",
            description=_mistakes(names, counts),
        )
    shades = "Shades are shares of a row."
    return Section("Confusion matrix", lead, [Panel("Test examples", shades, svg)], size="bars")


def _wordy(names: list[str]) -> bool:
    return max(map(len, names)) > 3


def _cell(axes: Axes, at: tuple[int, int], count: int, share: float, classes: int) -> None:
    shade = min(len(HEAT) - 1, int(share * len(HEAT)))
    corner = (at[0] - 0.47, at[1] - 0.47)
    axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=HEAT[shade], linewidth=0))
    if classes <= MOST_NUMBERED:
        ink = ON if shade >= 5 else INK
        axes.text(*at, f"{count:,}", ha="center", va="center", color=ink, fontsize=9)


def _mistakes(names: list[str], counts: list[list[int]]) -> str:
    """The most frequent mistakes in words."""
    mistakes = sorted(
        (
            (count, true, predicted)
            for true, row in enumerate(counts)
            for predicted, count in enumerate(row)
            if count and true != predicted
        ),
        reverse=True,
    )
    if not mistakes:
        return "Every example is on the diagonal."
    return "Most frequent mistakes: " + "; ".join(
        f"{names[true]} taken for {names[predicted]}, {count}"
        for count, true, predicted in mistakes[:5]
    )


def _classes(record: dict[str, Any]) -> Section:
    rows = [
        (
            row["name"],
            percent_of(row["precision"]),
            percent_of(row["recall"]),
            percent_of(row["f1"]),
            f"{row['examples']:,}",
        )
        for row in record["per_class"]
    ]
    columns = [("class", ""), ("precision", "%"), ("recall", "%"), ("F1", "%"), ("examples", "")]
    return Section(
        "Class by class",
        "Precision is the share of what was called so that is so; recall, the share of what is so that"
        " was called so; F1, their harmonic mean.",
        table=Table("Test examples", columns, rows),
    )


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    data, settings = record["data"], record["settings"]
    dropped = ", ".join(f"{count} {reason}" for reason, count in data["dropped"].items())
    stopping = ", early stopping" if settings["early_stopping"] else ""
    facts = {
        "Data": (
            f"{data['name']}: {data['rows']:,} examples, left out: {dropped or 'none'};"
            f" {data['train']:,} for training, {data['validation']:,} for validation,"
            f" {data['test']:,} for the test, stratified by class"
        ),
        "Settings": (
            f"Adam, learning rate {settings['learning_rate']:g}, batches of"
            f" {settings['batch_size']}, up to {settings['epochs']} epochs{stopping},"
            f" L1 {settings['l1']:g}, L2 {settings['l2']:g}, seed {settings['seed']}"
        ),
        "Accuracy elsewhere": ", ".join(
            f"{part} data {percent_of(record['metrics'][part]['accuracy'])} %"
            for part in ("train", "validation")
        ).replace("train ", "training "),
        "Parity": "; ".join(
            f"{name} differs from Keras by at most {difference:.1e}"
            for name, difference in record["parity"].items()
        ),
    }
    return [*facts.items(), *made_with(record)]


def made_with(record: dict[str, Any]) -> list[tuple[str, str]]:
    """When, and with which software."""
    moment = datetime.fromisoformat(record["created_utc"])
    packages = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    where = [("Machine", record["platform"])] if "platform" in record else []
    return [("Made", f"{moment:%-d %B %Y, %H:%M} UTC"), *where, ("Software", packages)]
