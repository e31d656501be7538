"""How the machine drifted: one point, measured at the start, in the middle and at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.formats import number, percent, tick
from harness.report.panels import Panel
from harness.report.style import INK, LINE, SERIES, caption, look, panel
from harness.report.svg import inline_svg

if TYPE_CHECKING:
    from harness.analysis.results import Analysis
    from harness.report.svg import StyleSheet

__all__ = ["drift_panel"]


def drift_panel(analysis: Analysis, sheet: StyleSheet) -> Panel | None:
    """The sentinel trials over the time of the run; ``None`` without at least two of them."""
    drift = analysis.drift
    if drift is None or len(drift.throughput) < 2:
        return None
    started = {trial.index: trial.started_utc for trial in analysis.trial_records}
    moments = [started[index] for index in drift.trials]
    minutes = [(moment - analysis.record.created_utc).total_seconds() / 60 for moment in moments]
    with look():
        figure, axes = panel(2.2)
        axes.plot(minutes, drift.throughput, color=SERIES[0], marker="o", linestyle=(0, (4, 3)))
        for x, y in zip(minutes, drift.throughput, strict=True):
            axes.annotate(
                number(y), (x, y), xytext=(0, 8), textcoords="offset points", ha="center", color=INK
            )
        axes.set_ylim(0, max(drift.throughput) * 1.35 or 1)
        axes.set_xlim(min(minutes) - _room(minutes), max(minutes) + _room(minutes))
        axes.axhline(0, color=LINE, linewidth=0.8)
        axes.locator_params(axis="y", nbins=4)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: tick(value))
        axes.set_xlabel("minutes since the start")
        caption(axes, "inferences/s")
        values = ", ".join(
            f"{number(y)} inferences/s after {tick(x)} min"
            for x, y in zip(minutes, drift.throughput, strict=True)
        )
        svg = inline_svg(
            figure,
            sheet,
            name="drift",
            title="Sentinel trials over the run",
            description=f"{drift.point}: {values}.",
        )
    spread = f"Largest over smallest: {percent(drift.spread, signed=True)}."
    return Panel(drift.point, "", svg, (spread,))


def _room(values: list[float]) -> float:
    return max(0.12 * (max(values) - min(values)), 0.02)
