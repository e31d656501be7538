"""Loads with a shape over their time: offered, sent and achieved rates, and response times below them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from harness.report.formats import number, tick
from harness.report.panels import Panel
from harness.report.style import HEAT, INK, MUTED, PANEL_WIDTH_IN, SERIES, caption, look
from harness.report.svg import inline_svg
from harness.statistics.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.analysis.course import Slice
    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis
    from harness.report.cast import Cast
    from harness.report.svg import StyleSheet

__all__ = ["MOST_PANELS", "course_panels", "shaped_results"]

MOST_PANELS = 24
HEIGHT_IN = 4.6


def shaped_results(analysis: Analysis) -> list[PointResult]:
    """The points whose load has a shape, in the order of the sweep."""
    return [result for result in analysis.results if result.course]


def course_panels(analysis: Analysis, cast: Cast, sheet: StyleSheet) -> list[Panel]:
    """A panel a point whose load has a shape, in the order of the sweep, at most :data:`MOST_PANELS`."""
    drawn = shaped_results(analysis)[:MOST_PANELS]
    return [_panel(result, cast, sheet, f"course-{n}") for n, result in enumerate(drawn)]


def _panel(result: PointResult, cast: Cast, sheet: StyleSheet, name: str) -> Panel:
    title = f"{result.point.workload.label}, {result.point.load.key}"
    with look(name):
        figure = Figure(figsize=(PANEL_WIDTH_IN, HEIGHT_IN))
        rates = figure.add_axes((0.124, 0.58, 0.848, 0.345))
        times = figure.add_axes((0.124, 0.112, 0.848, 0.345), sharex=rates)
        _rates(rates, result.course)
        _times(times, result.course)
        rates.tick_params(labelbottom=False)
        times.set_xlabel("seconds since the shape began")
        svg = inline_svg(
            figure,
            sheet,
            name=name,
            title=f"{title} over time",
            description=_describe(result),
        )
    return Panel(title, cast.name(result.point.configuration), svg, _notes(result))


def _rates(axes: Axes, course: tuple[Slice, ...]) -> None:
    edges = [course[0].start_s, *(part.end_s for part in course)]
    for label, values, colour, width in (
        ("offered", [part.offered_rps for part in course], MUTED, 1.1),
        ("sent", [part.sent_rps for part in course], SERIES[1], 1.1),
        ("achieved", [part.achieved_rps for part in course], SERIES[0], 1.8),
    ):
        axes.stairs(values, edges, color=colour, linewidth=width, label=label, baseline=None)
    axes.set_ylim(0, 1.25 * max(max(p.offered_rps, p.sent_rps, p.achieved_rps) for p in course))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.legend(ncols=3, frameon=False, fontsize=9, labelcolor=INK, loc="upper left")
    caption(axes, "requests/s")


def _times(axes: Axes, course: tuple[Slice, ...]) -> None:
    middle = [(part.start_s + part.end_s) / 2 for part in course]
    for label, values, colour, style in (
        ("p50", [part.p50_ms for part in course], HEAT[4], "-"),
        ("p99", [part.p99_ms for part in course], HEAT[8], "-"),
        ("slowest", [Interval(part.slowest_ms) for part in course], MUTED, ":"),
    ):
        estimates = [value.estimate for value in values]
        if not all(math.isnan(estimate) for estimate in estimates):
            axes.plot(middle, estimates, color=colour, linestyle=style, marker=".", label=label)
            # A side that the passes say nothing about is not drawn.
            low, high = (
                np.nan_to_num(bounds, nan=math.nan, posinf=math.nan, neginf=math.nan)
                for bounds in (
                    [value.low for value in values],
                    [value.high for value in values],
                )
            )
            axes.fill_between(middle, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_yscale("log")
    slowest = [part.slowest_ms for part in course if not math.isnan(part.slowest_ms)]
    quickest = [p50 for part in course if not math.isnan(p50 := part.p50_ms.estimate)] or slowest
    if slowest:
        axes.set_ylim(min(quickest) / 1.5, max(slowest) * 4)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda _, __: ""))
    axes.legend(ncols=3, frameon=False, fontsize=9, labelcolor=INK, loc="upper left")
    caption(axes, "response time by when it was due, ms")


def _describe(result: PointResult) -> str:
    course = result.course
    worst = course[int(np.nanargmax([_or_zero(part.slowest_ms) for part in course]))]
    return (
        f"Offered between {number(min(part.offered_rps for part in course))} and"
        f" {number(max(part.offered_rps for part in course))} requests/s; achieved at most"
        f" {number(max(part.achieved_rps for part in course))}; the slowest response took"
        f" {number(worst.slowest_ms)} ms and was due {number(worst.start_s)} to"
        f" {number(worst.end_s)} s after the beginning."
    )


def _notes(result: PointResult) -> tuple[str, ...]:
    arrivals = result.arrivals
    if arrivals is None:
        return ()
    said = []
    if result.passes == 1:
        said.append("Response times are those of one pass, and so without intervals.")
    if arrivals.unsent:
        said.append(f"{number(arrivals.unsent)} requests that were due were never sent.")
    if arrivals.capped:
        said.append("The cap on requests in flight was reached: others waited for it.")
    if not result.valid:
        said.append(f"Doubtful: {result.verdict}.")
    return tuple(said)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
