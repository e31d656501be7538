"""Throughput against p99: what each server configuration gives, and what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.report.cast import level_of, results_of, series_of, tip
from harness.report.formats import tick
from harness.report.panels import Panel
from harness.report.style import INK, MUTED, PAPER, REST, WARN, caption, log_axis, look, panel
from harness.report.svg import inline_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis, WorkloadResult
    from harness.report.cast import Cast
    from harness.report.svg import StyleSheet
    from harness.statistics.intervals import Interval

__all__ = ["tradeoff_panels"]

MOST_IN_GREY = 30


@dataclass
class _Drawing:
    """A panel while it is drawn: where points may lie, and what they say."""

    axes: Axes
    cast: Cast
    tips: dict[str, str] = field(default_factory=dict)


def tradeoff_panels(analysis: Analysis, cast: Cast, sheet: StyleSheet) -> list[Panel]:
    """One panel a workload."""
    slo_ms = analysis.slo.p99_s * 1e3 if analysis.slo.p99_s else None
    panels = []
    for place, workload in enumerate(cast.workloads):
        results = results_of(analysis, workload)
        panels.append(_panel(results, workload, cast, sheet, slo_ms, f"tradeoff-{place}"))
    return panels


def _panel(
    results: Sequence[PointResult],
    workload: WorkloadResult,
    cast: Cast,
    sheet: StyleSheet,
    slo_ms: float | None,
    name: str,
) -> Panel:
    drawn = [result for result in results if result.p99_ms and result.throughput.estimate > 0]
    left_out = len(results) - len(drawn)
    notes = []
    if left_out:
        some = "point is" if left_out == 1 else "points are"
        notes.append(f"{left_out:,} {some} not drawn: no p99 can be given.")
    if not drawn:
        return Panel(cast.title(workload), "", None, tuple(notes))
    with look():
        figure, axes = panel(3.9)
        drawing = _Drawing(axes, cast)
        _scale(axes, drawn, slo_ms)
        notes += _rest(drawing, drawn, workload)
        for member in reversed(cast.members[workload.model]):
            _line(drawing, series_of(drawn, member.configuration), member.colour, member.mark)
        best = workload.winner.best if workload.winner else None
        if best is not None and best.p99_ms is not None:
            _mark_best(axes, best, series_of(drawn, best.point.configuration))
        axes.set_xlabel("throughput, inferences/s")
        caption(axes, "p99 latency, ms")
        svg = inline_svg(
            figure,
            sheet,
            name=name,
            title=f"Throughput against p99: {cast.title(workload)}",
            description=_describe(drawn, cast),
            tips=drawing.tips,
        )
    return Panel(cast.title(workload), "", svg, tuple(notes))


def _scale(axes: Axes, results: Sequence[PointResult], slo_ms: float | None) -> None:
    """Limits that hold every estimate and as much of the intervals as is reasonable."""
    p99s = [result.p99_ms for result in results if result.p99_ms]
    estimates = [p99.estimate for p99 in p99s]
    low = min(max(_finite(p99.low, p99.estimate), p99.estimate / 2) for p99 in p99s)
    high = max(min(_finite(p99.high, p99.estimate), p99.estimate * 2) for p99 in p99s)
    if slo_ms is not None:
        _slo(axes, slo_ms, max(estimates) * 3)
        if min(estimates) / 3 <= slo_ms <= max(estimates) * 3:
            low, high = min(low, slo_ms), max(high, slo_ms)
    log_axis(axes, "y", low / 1.25, high * 1.25)
    fastest = max(
        min(_finite(result.throughput.high, 0.0), 1.25 * result.throughput.estimate)
        for result in results
    )
    fastest = max(fastest, *(result.throughput.estimate for result in results))
    axes.set_xlim(0, fastest * 1.06)
    axes.xaxis.set_major_formatter(lambda value, _: tick(value))
    axes.locator_params(axis="x", nbins=6)


def _finite(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise


def _slo(axes: Axes, slo_ms: float, highest: float) -> None:
    text = f"SLO: p99 ≤ {tick(slo_ms)} ms"
    if slo_ms > highest:
        axes.annotate(
            f"{text}, above ↑", (0.012, 0.985), xycoords="axes fraction",
            va="top", color=WARN, fontsize=10,
        )  # fmt: skip
        return
    axes.axhline(slo_ms, color=WARN, linewidth=1.2, linestyle=(0, (5, 3)))
    axes.annotate(
        text, (0.012, slo_ms), xycoords=("axes fraction", "data"),
        xytext=(0, 4), textcoords="offset points", color=WARN, fontsize=10,
    )  # fmt: skip


def _rest(drawing: _Drawing, results: Sequence[PointResult], workload: WorkloadResult) -> list[str]:
    """Draw the best of what has no colour of its own, in grey; return what there is to say of more."""
    grey = [
        ranked.configuration
        for ranked in workload.ranking
        if drawing.cast.member(ranked.configuration) is None
    ]
    for configuration in grey[:MOST_IN_GREY]:
        _line(drawing, series_of(results, configuration), REST, "o", small=True)
    if len(grey) > MOST_IN_GREY:
        return [f"{len(grey) - MOST_IN_GREY:,} more configurations are only in the tables."]
    return []


def _line(
    drawing: _Drawing,
    results: Sequence[PointResult],
    colour: str,
    mark: str,
    *,
    small: bool = False,
) -> None:
    """One configuration: a line through its load levels, intervals both ways, a mark a point."""
    axes = drawing.axes
    points = [(result, result.p99_ms) for result in results if result.p99_ms is not None]
    x = [result.throughput.estimate for result, _ in points]
    y = [p99.estimate for _, p99 in points]
    for kind in ("closed", "open"):
        same = [place for place, (result, _) in enumerate(points) if result.point.load.kind == kind]
        axes.plot(
            [x[place] for place in same], [y[place] for place in same],
            color=colour, linewidth=0.9 if small else 1.6, alpha=0.8,
        )  # fmt: skip
    for (result, p99), across, up in zip(points, x, y, strict=True):
        if not small:
            strength = 0.7 if result.valid else 0.3
            _whisker(axes, result.throughput, up, colour, across=True, strength=strength)
            _whisker(axes, p99, across, colour, across=False, strength=strength)
        gid = f"tip-{len(drawing.tips)}"
        drawing.tips[gid] = tip(drawing.cast, result)
        axes.plot(
            [across], [up], gid=gid, color=colour, marker=mark,
            markersize=3.5 if small else 6.5, markeredgewidth=0.8 if small else 1.5,
            markeredgecolor=colour, markerfacecolor=colour if result.valid else PAPER,
        )  # fmt: skip


def _whisker(
    axes: Axes, interval: Interval, at: float, colour: str, *, across: bool, strength: float
) -> None:
    """A 95 % interval as a thin line, paler for a doubtful point; an open end runs off the panel."""
    low, high = interval.low, interval.high
    if math.isnan(low) or math.isnan(high):
        return
    least, most = axes.get_xlim() if across else axes.get_ylim()
    ends = [max(low, least), min(high, most)]
    x, y = (ends, [at, at]) if across else ([at, at], ends)
    axes.plot(x, y, color=colour, linewidth=1.0, alpha=strength, solid_capstyle="butt")


def _mark_best(axes: Axes, best: PointResult, results: Sequence[PointResult]) -> None:
    """A ring around the recommendation, and the load levels along its line."""
    for result in results:
        if result.p99_ms is None or result.point.load.kind != best.point.load.kind:
            continue
        is_best = result.key == best.key
        level = tick(level_of(result.point))
        axes.annotate(
            f"best, at {level}" if is_best else level,
            (result.throughput.estimate, result.p99_ms.estimate),
            # Below and to the right of a frontier there is room.
            xytext=(10, -19) if is_best else (-6, 6), textcoords="offset points", ha="right",
            color=INK if is_best else MUTED, fontsize=11 if is_best else 9,
            fontweight="bold" if is_best else "normal",
        )  # fmt: skip
    p99 = best.p99_ms
    if p99 is not None:
        axes.plot(
            [best.throughput.estimate], [p99.estimate], marker="o", markersize=13,
            markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.3,
        )  # fmt: skip


def _describe(results: Sequence[PointResult], cast: Cast) -> str:
    """The panel in words: each configuration's fastest point."""
    sentences = []
    for member in cast.members[results[0].point.configuration.model]:
        own = [result for result in results if result.point.configuration == member.configuration]
        if own:
            fastest = max(own, key=lambda result: result.throughput.estimate)
            sentences.append(tip(cast, fastest).replace("\n", "; ") + ".")
    return "The fastest point of each. " + " ".join(sentences)
