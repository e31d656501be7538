"""CPU and memory over the whole run, as two small figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.report.formats import byte_size, number, tick
from harness.report.panels import Panel
from harness.report.style import SERIES, caption, look, panel
from harness.report.svg import inline_svg

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from harness.analysis.resources import Resources
    from harness.report.svg import StyleSheet

    Floats = npt.NDArray[np.float64]

__all__ = ["NAMES", "resource_panels"]

NAMES = {"server": "server", "stub": "stubs", "generator": "generator", "host": "host, all"}
MIB = 1 << 20
GAP = 0.09  # of the panel's height, between two names


def resource_panels(resources: Resources | None, sheet: StyleSheet) -> list[Panel]:
    """CPU and memory by role; none without telemetry."""
    if resources is None or not resources.cores:
        return []
    unseen = [name for role, name in NAMES.items() if role not in resources.cores]
    absent = (f"Not seen, n/a: {', '.join(unseen)}.",) if unseen else ()
    memory = {role: each / MIB for role, each in resources.memory_bytes.items() if role != "host"}
    panels = [_panel("CPU", "cores", resources.minutes, resources.cores, sheet, absent)]
    if memory:
        grown = tuple(_growth(resources))
        panels.append(_panel("Memory", "MiB resident", resources.minutes, memory, sheet, grown))
    return panels


def _growth(resources: Resources) -> list[str]:
    said = []
    for role, name in NAMES.items():
        growth = resources.growth.get(role)
        if role != "host" and growth is not None:
            said.append(
                f"{name} {byte_size(growth.first_bytes)} at first, {byte_size(growth.last_bytes)} at last"
            )
        elif role in ("server", "generator"):
            said.append(f"{name} n/a")
    return [f"Memory of the longest-lived process of each: {'; '.join(said)}."] if said else []


def _panel(
    title: str,
    unit: str,
    minutes: Floats,
    lines: Mapping[str, Floats],
    sheet: StyleSheet,
    notes: tuple[str, ...],
) -> Panel:
    with look():
        figure, axes = panel(2.4)
        top = max(float(np.nanmax(each, initial=0)) for each in lines.values()) or 1.0
        axes.set_ylim(0, top * 1.12)
        axes.set_xlim(0, float(minutes[-1]) * 1.3)
        for place, values in enumerate(lines.values()):
            known = np.isfinite(values)
            axes.plot(minutes[known], values[known], color=SERIES[place], linewidth=1.2)
        _name(axes, minutes, lines, top)
        axes.locator_params(axis="y", nbins=4)
        axes.set_xticks([at for at in axes.get_xticks() if at <= minutes[-1]])  # names stand beyond
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: tick(value))
        axes.set_xlabel("minutes since the first reading")
        caption(axes, unit)
        svg = inline_svg(
            figure,
            sheet,
            name=f"resources-{title.lower()}",
            title=f"{title} over the run",
            description=" ".join(
                f"{NAMES[role]}: {unit} {number(float(np.nanmean(values)))} on the average, at most"
                f" {number(float(np.nanmax(values)))}."
                for role, values in lines.items()
                if np.isfinite(values).any()
            ),
        )
    return Panel(title, "", svg, notes)


def _name(axes: Axes, minutes: Floats, lines: Mapping[str, Floats], top: float) -> None:
    """Write each line's name at its end, none over another."""
    ends = []
    for place, (role, values) in enumerate(lines.items()):
        known = np.flatnonzero(np.isfinite(values))
        if len(known):
            ends.append((float(values[known[-1]]), place, role))
    lowest = 0.0
    for value, place, role in sorted(ends):
        lowest = max(value, lowest)
        axes.annotate(
            NAMES[role],
            (float(minutes[-1]) * 1.02, lowest),
            color=SERIES[place],
            va="center",
            annotation_clip=False,
        )
        lowest += GAP * top
