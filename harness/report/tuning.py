"""The page of a tuning: the Pareto front of accuracy against what serving costs, and every candidate.

Made from ``tuning.json`` alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from harness.report.formats import byte_size, duration, number, tick
from harness.report.model_page import (
    Headline,
    ModelPage,
    Section,
    Table,
    read_json,
    write_model_page,
)
from harness.report.panels import Panel
from harness.report.style import INK, MARKS, SERIES, caption, log_axis, look, panel
from harness.report.svg import StyleSheet, inline_svg
from harness.report.training import made_with, percent_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_tuning_page"]

COLUMNS = (
    ("network", ""),
    ("on the front", ""),
    ("batch", ""),
    ("rate", ""),
    ("L1", ""),
    ("L2", ""),
    ("epochs", ""),
    ("accuracy", "%"),
    ("macro recall", "%"),
    ("macro F1", "%"),
    ("fit", "s"),
    ("latency", "ms"),
    ("throughput", "images/s"),
    ("parameters", ""),
    ("file", ""),
)


def write_tuning_page(folder: Path) -> Path:
    """Write ``index.html`` beside ``tuning.json`` and return its path.

    Raises:
        UsageError: the folder holds no ``tuning.json`` that can be read.
        EnvironmentFailedError: the page cannot be written.
    """
    record = read_json(folder / "tuning.json", "Tune a model with harness tune")
    candidates = record["candidates"]
    best = candidates[0]
    sheet = StyleSheet()
    near = sum(candidate["near_best"] for candidate in candidates) - 1
    page = ModelPage(
        eyebrow="Tuning",
        title=f"{best['settings']['network']} reaches {percent_of(best['accuracy']['mean'])} %",
        lede=(
            f"The best of {len(candidates)} candidates by {record['folds']}-fold cross-validation:"
            f" {_words(best['settings'])}. {near or 'No'} more"
            f" {'is' if near == 1 else 'are'} within one standard error of it."
        ),
        figures=[
            Headline("accuracy", _spread(best["accuracy"]), "%"),
            Headline("macro recall", _spread(best["recall_macro"]), "%"),
            Headline("macro F1", _spread(best["f1_macro"]), "%"),
            Headline("latency", number(float(best["cost"]["latency_ms"])), "ms"),
        ],
        sections=[_front(record, sheet), _table(record)],
        facts=_facts(record),
    )
    return write_model_page(folder / "index.html", page, sheet)


def _words(settings: dict[str, Any]) -> str:
    return (
        f"{settings['network']}, batches of {settings['batch_size']}, learning rate"
        f" {settings['learning_rate']:g}, L1 {settings['l1']:g}, L2 {settings['l2']:g},"
        f" {settings['epochs']} epochs"
    )


def _spread(figure: dict[str, Any]) -> str:
    return f"{percent_of(figure['mean'])} ± {percent_of(figure['std'])}"


def _front(record: dict[str, Any], sheet: StyleSheet) -> Section:
    networks = list(dict.fromkeys(each["settings"]["network"] for each in record["candidates"]))
    places = {network: place % len(SERIES) for place, network in enumerate(networks)}
    panels = [
        _panel(record, places, sheet, "latency_ms", "latency of one image, ms"),
        _panel(record, places, sheet, "throughput", "images/s in batches of 32"),
    ]
    return Section(
        "Accuracy against the cost of serving",
        "Each mark is a candidate with its standard deviation over the folds. The line joins the Pareto"
        " front: nothing that is as accurate costs less. Costs are of ONNX Runtime on one thread in"
        " one process, without server, network and queue; they depend on the network alone.",
        panels,
        [(place, network) for network, place in places.items()],
    )


def _panel(
    record: dict[str, Any], places: dict[str, int], sheet: StyleSheet, cost: str, label: str
) -> Panel:
    candidates = record["candidates"]
    tips = {}
    with look():
        figure, axes = panel(3.6)
        for number_, each in enumerate(candidates):
            place = places[each["settings"]["network"]]
            x, mean, std = each["cost"][cost], each["accuracy"]["mean"], each["accuracy"]["std"]
            colour = SERIES[place]
            axes.plot([x, x], [(mean - std) * 100, (mean + std) * 100], color=colour, linewidth=0.8)
            gid = f"tip-{number_}"
            axes.plot([x], [mean * 100], color=colour, marker=MARKS[place], gid=gid)
            tips[gid] = f"{_words(each['settings'])}\n{_spread(each['accuracy'])} %"
        costs = [each["cost"][cost] for each in candidates]
        front = _best_for_cost(candidates, cost)
        axes.plot(*zip(*front, strict=True), color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
        log_axis(axes, "x", min(costs) / 1.5, max(costs) * 1.5)
        axes.yaxis.set_major_formatter(lambda value, _: tick(value))
        axes.set_xlabel(label)
        caption(axes, "accuracy, %")
        svg = inline_svg(
            figure,
            sheet,
            name=f"front-{cost.replace('_', '-')}",
            title=f"Accuracy against {label}",
            description=" ".join(f"{text}." for text in tips.values()).replace("\n", ": "),
            tips=tips,
        )
    return Panel(label.partition(",")[0].capitalize(), "", svg)


def _best_for_cost(candidates: list[dict[str, Any]], cost: str) -> list[tuple[float, float]]:
    """The front's points from the cheapest on: each more accurate than all that are cheaper."""
    sign = -1 if cost == "throughput" else 1
    front: list[tuple[float, float]] = []
    pairs = [(each["cost"][cost], each["accuracy"]["mean"] * 100) for each in candidates]
    for x, accuracy in sorted(pairs, key=lambda pair: (sign * pair[0], -pair[1])):
        if not front or accuracy > front[-1][1]:
            front.append((x, accuracy))
    return front


def _table(record: dict[str, Any]) -> Section:
    rows = []
    for each in record["candidates"]:
        settings, cost = each["settings"], each["cost"]
        rows.append(
            (
                settings["network"],
                "yes" if each["front"] else "",
                str(settings["batch_size"]),
                f"{settings['learning_rate']:g}",
                f"{settings['l1']:g}",
                f"{settings['l2']:g}",
                str(settings["epochs"]),
                _spread(each["accuracy"]),
                _spread(each["recall_macro"]),
                _spread(each["f1_macro"]),
                number(float(each["fit_s"])),
                number(float(cost["latency_ms"])),
                number(round(cost["throughput"])),
                f"{cost['parameters']:,}",
                byte_size(cost["file_bytes"]),
            )
        )
    return Section(
        "Every candidate",
        "From the best mean accuracy down; mean ± standard deviation over the folds.",
        table=Table("Candidates", COLUMNS, rows, best=0),
    )


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    data = record["data"]
    dropped = ", ".join(f"{count} {reason}" for reason, count in data["dropped"].items())
    reused = f", {record['reused_fits']} of them taken over" if record["reused_fits"] else ""
    took = duration(timedelta(seconds=record["duration_s"]))
    facts = {
        "Search": (
            f"{record['method']}, {record['fits']} fits in {took} on {record['cores']} cores{reused};"
            f" seed {record['seed']}"
        ),
        "Data": (
            f"{data['name']}: {data['rows']:,} examples, left out: {dropped or 'none'}; a fifth was"
            " held back for the test and used by no candidate, the rest split into"
            f" {record['folds']} folds, stratified by class"
        ),
        "To train the best": "harness train --config best.yaml (best-<network>.yaml for each network)",
    }
    return [*facts.items(), *made_with(record)]
