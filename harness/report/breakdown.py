"""Where the time of a request goes: bars of mean latency, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.patches import Rectangle

from harness.report.cast import doubt, level_text, results_of, series_of
from harness.report.formats import number, tick
from harness.report.panels import Panel
from harness.report.style import INK, MUTED, PAPER, PARTS, bars, look
from harness.report.svg import inline_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis
    from harness.report.cast import Cast
    from harness.report.svg import StyleSheet

__all__ = ["breakdown_panels", "part_names"]

PART_NAMES = {
    "waiting_to_send_ms": "waiting to send",
    "client_and_network_ms": "client and network",
    "queue_ms": "queue",
    "compute_input_ms": "compute input",
    "compute_infer_ms": "compute infer",
    "compute_output_ms": "compute output",
    "server_other_ms": "unexplained rest",
}
MOST_BARS = 8


def part_names(analysis: Analysis) -> list[tuple[int, str]]:
    """The parts that appear, with the number of their colour: a closed loop has no waiting to send."""
    is_open = any(result.point.load.kind != "closed" for result in analysis.results)
    names = list(enumerate(PART_NAMES.values(), 1))
    return names if is_open else names[1:]


def breakdown_panels(analysis: Analysis, cast: Cast, sheet: StyleSheet) -> list[Panel]:
    """For each workload: the best configuration over the load, and all in colour at its best level."""
    panels = []
    for place, workload in enumerate(cast.workloads):
        leader = workload.winner or (workload.ranking[0] if workload.ranking else None)
        if leader is None:
            continue
        title, results = cast.title(workload), results_of(analysis, workload)
        series = series_of(results, leader.configuration)
        step = -(-len(series) // MOST_BARS)
        over_load = [(level_text(result.point), result) for result in series[::step]]
        subtitle = cast.name(leader.configuration)
        panels.append(_panel(over_load, (title, subtitle), sheet, f"time-{place}-load"))
        at = leader.best or series[-1]
        beside = [
            (cast.name(result.point.configuration), result)
            for result in results
            if result.point.load == at.point.load and cast.member(result.point.configuration)
        ]
        if len(beside) > 1:
            subtitle = f"all at {level_text(at.point)}"
            panels.append(_panel(beside, (title, subtitle), sheet, f"time-{place}-configurations"))
    return panels


def _panel(
    rows: Sequence[tuple[str, PointResult]], titles: tuple[str, str], sheet: StyleSheet, name: str
) -> Panel:
    known = [(label, result) for label, result in rows if result.breakdown is not None]
    unknown = [label for label, result in rows if result.breakdown is None]
    notes = (f"Without server statistics: {', '.join(unknown)}.",) if unknown else ()
    if not known:
        return Panel(*titles, None, notes)
    parts = [_parts(result) for _, result in known]
    tips: dict[str, str] = {}
    with look():
        figure, axes = bars(len(known), max(sum(part) for part in parts))
        for row, ((label, result), values) in enumerate(zip(known, parts, strict=True)):
            y = len(known) - 1 - row
            start = 0.0
            for (field, part), value, colour in zip(PART_NAMES.items(), values, PARTS, strict=True):
                gid = f"tip-{len(tips)}"
                said = (label, f"{part}: {number(getattr(result.breakdown, field))} ms")
                tips[gid] = "\n".join([*said, *doubt(result)])
                if value > 0:
                    edge = MUTED if field == "server_other_ms" else PAPER
                    axes.add_patch(
                        Rectangle(
                            (start, y - 0.21), value, 0.42,
                            facecolor=colour, edgecolor=edge, linewidth=0.5, gid=gid,
                        )
                    )  # fmt: skip
                start += value
            axes.annotate(
                label if result.valid else f"○ {label}", (0, y), xytext=(0, 14),
                textcoords="offset points", va="center", color=INK, fontsize=10,
            )  # fmt: skip
            axes.annotate(
                f"{number(start)} ms", (start, y), xytext=(5, 0), textcoords="offset points",
                va="center", color=MUTED, fontsize=10,
            )  # fmt: skip
        axes.set_xlabel("mean latency, ms")
        axes.xaxis.set_major_formatter(lambda value, _: tick(value))
        svg = inline_svg(
            figure,
            sheet,
            name=name,
            title=f"Where the time goes, {': '.join(titles)}",
            description=_describe(known),
            tips=tips,
        )
    return Panel(*titles, svg, notes)


def _parts(result: PointResult) -> list[float]:
    """The parts in the order of :data:`PART_NAMES`; a rest below zero is measurement error, not time."""
    return [max(0.0, getattr(result.breakdown, field)) for field in PART_NAMES]


def _describe(rows: Sequence[tuple[str, PointResult]]) -> str:
    sentences = []
    for label, result in rows:
        parts = ", ".join(
            f"{part} {number(value)} ms"
            for part, value in zip(PART_NAMES.values(), _parts(result), strict=True)
        )
        sentences.append(f"{label}: {parts}.")
    return " ".join(sentences)
