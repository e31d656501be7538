"""Models against each other: accuracy over the throughput that each gives within the SLO, and a table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.analysis.contest import compete
from harness.report.cast import level_text
from harness.report.formats import NONE, bounds, number, percent, tick
from harness.report.panels import Panel
from harness.report.style import INK, MARKS, REST, SERIES, caption, log_axis, look, panel
from harness.report.svg import inline_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from harness.analysis.contest import Contender, Contest
    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis
    from harness.report.cast import Cast
    from harness.report.svg import StyleSheet
    from harness.statistics.intervals import Interval

__all__ = ["contest_panels", "contest_tables"]

COLUMNS = (
    ("Model", ""),
    ("Precision", ""),
    ("On the front", ""),
    ("Accuracy", "%"),
    ("Interval", "95 %"),
    ("Throughput", "inferences/s"),
    ("Interval", "95 %"),
    ("p99", "ms"),
    ("Of the fastest", "paired"),
    ("Configuration and load", ""),
    ("Loses", ""),
    ("Judged on", ""),
    ("Parameters", "weights"),
)


def contest_panels(analysis: Analysis, sheet: StyleSheet) -> list[Panel]:
    """One panel a workload where two models or more can be drawn; none in a run of one model."""
    return [
        _panel(contest, sheet, f"models-{place}")
        for place, contest in enumerate(compete(analysis))
        if len(_drawn(contest)) > 1
    ]


def _drawn(contest: Contest) -> list[tuple[Contender, Interval, PointResult]]:
    """What has both an accuracy and a throughput."""
    return [
        (each, each.accuracy, each.best)
        for each in contest.contenders
        if each.accuracy is not None and each.best is not None
    ]


def _panel(contest: Contest, sheet: StyleSheet, name: str) -> Panel:
    drawn = _drawn(contest)
    tips: dict[str, str] = {}
    with look():
        figure, axes = panel(3.6)
        for place, (each, accuracy, best) in enumerate(drawn):
            _mark(axes, each.model, accuracy, best.throughput, place, tips)
        front = sorted(
            (best.throughput.estimate, accuracy.estimate * 100)
            for each, accuracy, best in drawn
            if each.front
        )
        axes.plot(*zip(*front, strict=True), color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
        speeds = [best.throughput.estimate for _, _, best in drawn]
        log_axis(axes, "x", min(speeds) / 1.6, max(speeds) * 1.6)
        axes.yaxis.set_major_formatter(lambda value, _: tick(value))
        axes.set_xlabel("throughput, inferences/s")
        caption(axes, "accuracy, %")
        svg = inline_svg(
            figure,
            sheet,
            name=name,
            title=f"Accuracy against throughput: {contest.workload.label}",
            description=" ".join(f"{text}." for text in tips.values()).replace("\n", ": "),
            tips=tips,
        )
    left_out = [each.model for each in contest.contenders if each not in [one for one, *_ in drawn]]
    notes = (f"Only in the table: {', '.join(left_out)}.",) if left_out else ()
    return Panel(contest.workload.label, contest.objective, svg, notes)


def _mark(
    axes: Axes,
    name: str,
    accuracy: Interval,
    throughput: Interval,
    place: int,
    tips: dict[str, str],
) -> None:
    """A model: its mark, its intervals, its name beside it."""
    colour = SERIES[place] if place < len(SERIES) else REST
    x, y = throughput.estimate, accuracy.estimate * 100
    axes.plot([x, x], [accuracy.low * 100, accuracy.high * 100], color=colour, linewidth=0.9)
    if math.isfinite(throughput.low) and math.isfinite(throughput.high):
        # A logarithmic axis has no place for what an interval of few passes may reach below zero.
        axes.plot(
            [max(throughput.low, x / 10), throughput.high], [y, y], color=colour, linewidth=0.9
        )
    gid = f"tip-{place}"
    axes.plot([x], [y], color=colour, marker=MARKS[place % len(MARKS)], markersize=6.5, gid=gid)
    axes.annotate(
        name, (x, y), xytext=(6, 6 if place % 2 else -14), textcoords="offset points", color=INK
    )
    tips[gid] = (
        f"{name}\naccuracy {number(y)} % ({_percents(accuracy)})"
        f"\n{number(x)} inferences/s ({bounds(throughput)})"
    )


def _percents(share: Interval) -> str:
    return f"{share.low * 100:.1f}–{share.high * 100:.1f}"


def contest_tables(
    analysis: Analysis, cast: Cast
) -> list[tuple[str, Sequence[tuple[str, str]], list[tuple[str, ...]]]]:
    """One table a workload, the fastest model first."""
    return [
        (
            f"Models: {contest.workload.label}, {contest.objective}",
            COLUMNS,
            [_row(each, cast) for each in contest.contenders],
        )
        for contest in compete(analysis)
    ]


def _row(contender: Contender, cast: Cast) -> tuple[str, ...]:
    best, accuracy, share = contender.best, contender.accuracy, contender.of_fastest
    known = (f"{accuracy.estimate * 100:.1f}", _percents(accuracy)) if accuracy else (NONE, NONE)
    measured: tuple[str, ...] = (NONE, NONE, NONE, NONE, f"none: {contender.why_not}")
    if best is not None:
        measured = (
            number(best.throughput.estimate),
            bounds(best.throughput),
            number(best.p99_ms.estimate) if best.p99_ms else NONE,
            percent(share.estimate) if share else NONE,
            f"{cast.name(best.point.configuration)}, {level_text(best.point)}",
        )
    return (
        contender.model,
        contender.precision or NONE,
        "yes" if contender.front else "",
        *known,
        *measured,
        contender.loss or NONE,
        contender.judged_on or "not known",
        number(contender.parameters),
    )
