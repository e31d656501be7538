"""Throughput over instances and load level: one map for each workload and way of batching."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.patches import Rectangle

from harness.report.cast import level_axis, level_of, results_of, tip
from harness.report.formats import number, tick
from harness.report.panels import Panel
from harness.report.style import HEAT, INK, MUTED, ON, caption, look, panel
from harness.report.svg import inline_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis, WorkloadResult
    from harness.report.cast import Cast
    from harness.report.svg import StyleSheet

__all__ = ["MOST_MAPS", "heat_maps", "heat_panels"]

MOST_MAPS = 24
MOST_ROWS, MOST_COLUMNS = 12, 16
MOST_LABELLED_COLUMNS = 8
ROW_IN = 0.46


@dataclass(frozen=True)
class _Map:
    """What one map shows; ``own`` holds all points of the workload and sets rows, columns and shades."""

    workload: WorkloadResult
    batching: str
    mapped: Sequence[PointResult]
    own: Sequence[PointResult]


def heat_maps(analysis: Analysis, cast: Cast) -> list[_Map]:
    """A map for each workload and way of batching.

    None where the run has a single number of instances and a single load level.
    """
    found: list[_Map] = []
    for workload in cast.workloads:
        results = results_of(analysis, workload)
        for kind in ("closed", "open"):
            own = [result for result in results if result.point.load.kind == kind]
            if len({_cell(result) for result in own}) < 2:
                continue
            maps: dict[str, list[PointResult]] = {}
            for result in own:
                maps.setdefault(_batching(result, cast), []).append(result)
            found += [_Map(workload, batching, mapped, own) for batching, mapped in maps.items()]
    return found


def heat_panels(maps: Sequence[_Map], cast: Cast, sheet: StyleSheet) -> list[Panel]:
    """The first :data:`MOST_MAPS` of ``maps``, shades comparable within a workload."""
    return [_panel(each, cast, sheet, f"heat-{n}") for n, each in enumerate(maps[:MOST_MAPS])]


def _cell(result: PointResult) -> tuple[int, float]:
    return result.point.configuration.instances, level_of(result.point)


def _some(values: Sequence[float], keep: float, most: int) -> list[float]:
    """At most ``most`` of the values, evenly spread over their places, ``keep`` among them."""
    if len(values) <= most:
        return list(values)
    chosen = {values[place * (len(values) - 1) // (most - 1)] for place in range(most)}
    if keep in values and keep not in chosen:
        chosen.remove(min(chosen, key=lambda value: abs(value - keep)))
        chosen.add(keep)
    return sorted(chosen)


def _batching(result: PointResult, cast: Cast) -> str:
    """A configuration's name without its instances: what all cells of one map have in common."""
    return re.sub(r"^\d+ instances?,? ", "", cast.name(result.point.configuration))


def _panel(shown: _Map, cast: Cast, sheet: StyleSheet, name: str) -> Panel:
    workload, batching, own = shown.workload, shown.batching, shown.own
    winner = workload.winner.best if workload.winner else None
    kept = _cell(winner) if winner else (0, 0.0)
    rows, columns = (
        _some(sorted({_cell(result)[axis] for result in own}), kept[axis], most)
        for axis, most in ((0, MOST_ROWS), (1, MOST_COLUMNS))
    )
    fastest = max(result.throughput.estimate for result in own)
    best = winner.key if winner else None
    left_out = len({_cell(result) for result in own}) - len(rows) * len(columns)
    notes = ("Some instances or load levels are left out here; the tables have them all.",)
    mapped = [
        result
        for result in shown.mapped
        if _cell(result)[0] in rows and _cell(result)[1] in columns
    ]
    tips = {f"tip-{place}": tip(cast, result) for place, result in enumerate(mapped)}
    with look():
        figure, axes = panel(0.95 + ROW_IN * len(rows), width_in=4.0, left_in=0.4)
        for place, result in enumerate(mapped):
            instances, level = _cell(result)
            x, y = columns.index(level), rows.index(instances)
            share = result.throughput.estimate / fastest if fastest > 0 else 0.0
            _draw(axes, (x, y), result, share, len(columns), f"tip-{place}")
            if result.key == best:
                axes.add_patch(
                    Rectangle((x - 0.49, y - 0.49), 0.98, 0.98, fill=False, edgecolor=INK, lw=1.6)
                )
        axes.set_xlim(-0.52, len(columns) - 0.48)
        axes.set_ylim(-0.52, len(rows) - 0.48)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
        step = -(-len(columns) // MOST_LABELLED_COLUMNS)
        axes.set_xticks(range(0, len(columns), step), [tick(level) for level in columns[::step]])
        axes.set_yticks(range(len(rows)), [tick(row) for row in rows])
        axes.set_xlabel(level_axis(mapped[0].point.load.kind))
        caption(axes, "instances")
        svg = inline_svg(
            figure,
            sheet,
            name=name,
            title=f"Throughput over instances and load, {cast.title(workload)}, {batching}",
            description=" ".join(f"{text}." for text in tips.values()).replace("\n", ", "),
            tips=tips,
        )
    return Panel(cast.title(workload), batching, svg, notes if left_out > 0 else ())


def _draw(
    axes: Axes, at: tuple[int, int], result: PointResult, share: float, columns: int, gid: str
) -> None:
    """One cell: its shade, and its throughput with a hollow mark where it is doubtful."""
    x, y = at
    if not result.throughput.estimate > 0:
        axes.text(x, y, "–", ha="center", va="center", color=MUTED)
        return
    shade = min(len(HEAT) - 1, int(share * len(HEAT)))
    axes.add_patch(
        Rectangle((x - 0.46, y - 0.45), 0.92, 0.9, facecolor=HEAT[shade], edgecolor="none", gid=gid)
    )
    if columns > MOST_LABELLED_COLUMNS * 2:
        return
    value = result.throughput.estimate
    text = number(value) if columns <= MOST_LABELLED_COLUMNS else f"{value / 1e3:.1f}k"
    axes.text(
        x, y, text if result.valid else f"○ {text}", ha="center", va="center_baseline",
        color=ON if shade > len(HEAT) // 2 else INK,
        fontsize=10 if columns <= 5 else 9,
    )  # fmt: skip
