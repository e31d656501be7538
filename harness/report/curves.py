"""Lines over a number of something: loss by epoch, seconds by batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from matplotlib.ticker import MaxNLocator

from harness.report.formats import number, tick
from harness.report.panels import Panel
from harness.report.style import MARKS, SERIES, caption, load_axis, log_axis, look, panel
from harness.report.svg import inline_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from harness.report.svg import StyleSheet

__all__ = ["Axis", "Curve", "curve_panel"]

MOST_MARKED = 15


@dataclass(frozen=True)
class Curve:
    """One line: its name, the place of its colour and mark, its points, and where they range."""

    name: str
    place: int
    x: Sequence[float]
    y: Sequence[float]
    ranges: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and how: ``linear``, ``log``, or (x only) ``doubling``.

    ``highest`` is the least that a linear y axis reaches up to, so that panels can be compared.
    """

    label: str
    scale: Literal["linear", "log", "doubling"] = "linear"
    from_zero: bool = False
    highest: float = 0.0


def curve_panel(
    curves: Sequence[Curve],
    x: Axis,
    y: Axis,
    sheet: StyleSheet,
    *,
    name: str,
    title: str,
    subtitle: str = "",
) -> Panel:
    """A panel with all ``curves``; values that are no numbers are not drawn, and a note says so."""
    tips: dict[str, str] = {}
    with look():
        figure, axes = panel()
        for curve in curves:
            _draw(axes, curve, tips)
        _scale_x(axes, curves, x)
        _scale_y(axes, curves, y)
        svg = inline_svg(
            figure,
            sheet,
            name=name,
            title=f"{title}, {subtitle}" if subtitle else title,
            description=_describe(curves, x, y),
            tips=tips,
        )
    points = sum(len(curve.y) for curve in curves)
    left_out = points - sum(math.isfinite(value) for curve in curves for value in curve.y)
    notes = (f"{left_out} of {points} values are no numbers and not drawn.",) if left_out else ()
    return Panel(title, subtitle, svg, notes)


def _draw(axes: Axes, curve: Curve, tips: dict[str, str]) -> None:
    """A line through all points; marks that speak where there are few of them."""
    colour, mark = SERIES[curve.place], MARKS[curve.place]
    axes.plot(curve.x, curve.y, color=colour)
    for at, (low, high) in zip(curve.x, curve.ranges, strict=bool(curve.ranges)):
        axes.plot([at, at], [low, high], color=colour, linewidth=1.0)
    if len(curve.x) > MOST_MARKED:
        return
    for at, value in zip(curve.x, curve.y, strict=True):
        gid = f"tip-{len(tips)}"
        axes.plot([at], [value], color=colour, marker=mark, gid=gid)
        tips[gid] = f"{curve.name}, {tick(at)}: {number(value)}"


def _scale_x(axes: Axes, curves: Sequence[Curve], x: Axis) -> None:
    values = sorted({float(value) for curve in curves for value in curve.x})
    if x.scale == "doubling":
        load_axis(axes, values, x.label)
        return
    if x.scale == "log":
        log_axis(axes, "x", min(values) / 1.3, max(values) * 1.3)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.set_xlabel(x.label)


def _scale_y(axes: Axes, curves: Sequence[Curve], y: Axis) -> None:
    drawn = [value for curve in curves for value in curve.y if math.isfinite(value)]
    drawn += [end for curve in curves for ends in curve.ranges for end in ends]
    caption(axes, y.label)
    if y.scale == "log" and (positive := [value for value in drawn if value > 0]):
        log_axis(axes, "y", min(positive) / 1.25, max(positive) * 1.25)
        return
    if y.from_zero and drawn:
        axes.set_ylim(0, max(*drawn, y.highest) * 1.08 or 1.0)
    axes.yaxis.set_major_formatter(lambda value, _: tick(value))


def _describe(curves: Sequence[Curve], x: Axis, y: Axis) -> str:
    """The first and the last point of each line in words."""
    return " ".join(
        f"{curve.name}: {y.label} {number(curve.y[0])} at {x.label} {tick(curve.x[0])},"
        f" {number(curve.y[-1])} at {tick(curve.x[-1])}."
        for curve in curves
        if curve.y
    )
