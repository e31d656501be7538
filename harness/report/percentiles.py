"""Latency percentiles against the load level, for the recommended configuration and the default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.report.cast import doubt, level_axis, level_of, level_text, results_of, series_of
from harness.report.formats import bounds, number, tick
from harness.report.panels import Panel
from harness.report.style import HEAT, INK, PAPER, WARN, caption, load_axis, log_axis, look, panel
from harness.report.svg import inline_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis, WorkloadResult
    from harness.point import ServerConfiguration
    from harness.report.cast import Cast
    from harness.report.svg import StyleSheet

__all__ = ["percentile_panels"]

# One hue, darker the further out in the tail.
TONES = {0.5: HEAT[3], 0.9: HEAT[5], 0.95: HEAT[6], 0.99: HEAT[8]}


def percentile_panels(analysis: Analysis, cast: Cast, sheet: StyleSheet) -> list[Panel]:
    """For each workload a panel of its best configuration, and one of the default beside it."""
    panels = []
    slo_ms = analysis.slo.p99_s * 1e3 if analysis.slo.p99_s else None
    for place, workload in enumerate(cast.workloads):
        results = results_of(analysis, workload)
        shown = [
            (role, series_of(results, configuration))
            for role, configuration in _configurations(workload, cast)
        ]
        for kind in ("closed", "open"):
            groups = [
                (role, [result for result in series if result.point.load.kind == kind])
                for role, series in shown
            ]
            groups = [(role, series) for role, series in groups if series]
            together = [result for _, series in groups for result in series]
            for number_of, (role, series) in enumerate(groups):
                name = cast.name(series[0].point.configuration)
                titles = (cast.title(workload), f"{name}{role}")
                panels.append(
                    _panel(
                        series,
                        together,
                        titles,
                        sheet,
                        slo_ms,
                        f"latency-{place}-{kind}-{number_of}",
                    )
                )
    return panels


def _configurations(workload: WorkloadResult, cast: Cast) -> list[tuple[str, ServerConfiguration]]:
    """The recommendation, or else the first of the ranking, and the default beside it."""
    found: list[tuple[str, ServerConfiguration]] = []
    if workload.winner:
        found.append((" (best)", workload.winner.configuration))
    found += [
        (" (default)", member.configuration)
        for member in cast.members[workload.model]
        if member.is_default and (not found or member.configuration != found[0][1])
    ][:1]
    if not found and workload.ranking:
        found.append(("", workload.ranking[0].configuration))
    return found


def _panel(
    series: Sequence[PointResult],
    together: Sequence[PointResult],
    titles: tuple[str, str],
    sheet: StyleSheet,
    slo_ms: float | None,
    name: str,
) -> Panel:
    """One configuration; ``together`` sets the scale that it shares with the one beside it."""
    seen = _seen_ms(together)
    notes = _missing(series)
    if not _seen_ms(series):
        return Panel(*titles, None, notes or ("No right answers.",))
    kind = series[0].point.load.kind
    tips: dict[str, str] = {}
    with look():
        figure, axes = panel()
        highest = max(seen)
        if slo_ms and min(seen) / 3 < slo_ms < highest * 3:
            highest = max(highest, slo_ms)
            axes.axhline(slo_ms, color=WARN, linewidth=1.2, linestyle=(0, (5, 3)))
        log_axis(axes, "y", min(seen) / 1.4, highest * 1.5)
        levels = sorted({level_of(result.point) for result in together})
        load_axis(axes, levels, level_axis(kind))
        axes.set_xlim(right=axes.get_xlim()[1] * (axes.get_xlim()[1] / axes.get_xlim()[0]) ** 0.1)
        ends = [_line(axes, series, q, tips) for q in TONES]
        _label_ends(axes, [end for end in ends if end])
        caption(axes, "latency, ms")
        svg = inline_svg(
            figure,
            sheet,
            name=name,
            title=f"Latency percentiles, {': '.join(titles)}",
            description=" ".join(f"{_tip(result)}." for result in series).replace("\n", ", "),
            tips=tips,
        )
    return Panel(*titles, svg, notes)


def _seen_ms(series: Sequence[PointResult]) -> list[float]:
    """All percentiles that there are."""
    return [
        percentile.interval_ms.estimate
        for result in series
        for percentile in result.percentiles.values()
        if percentile.interval_ms
    ]


def _missing(series: Sequence[PointResult]) -> tuple[str, ...]:
    """What is not drawn, and how much it takes to publish it."""
    notes = []
    for q in TONES:
        short = [result for result in series if result.percentiles[q].interval_ms is None]
        if short:
            levels = ", ".join(tick(level_of(result.point)) for result in short)
            percentile = short[0].percentiles[q]
            notes.append(f"p{q * 100:g} at {levels}: needs {percentile.needs:,} samples.")
    return tuple(notes)


def _line(
    axes: Axes, series: Sequence[PointResult], q: float, tips: dict[str, str]
) -> tuple[float, float, str] | None:
    """Draw one percentile, the p99 with its intervals; return where it ends and its name."""
    shown = [
        (result, result.percentiles[q].interval_ms)
        for result in series
        if result.percentiles[q].interval_ms
    ]
    if not shown:
        return None
    x = [level_of(result.point) for result, _ in shown]
    y = [interval.estimate for _, interval in shown if interval]
    axes.plot(x, y, color=TONES[q])
    least, most = axes.get_ylim()
    for (result, interval), across, up in zip(shown, x, y, strict=True):
        if q == 0.99 and interval and not math.isnan(interval.low):
            ends = [max(interval.low, least), min(interval.high, most)]
            axes.plot([across, across], ends, color=TONES[q], linewidth=1.0)
        gid = f"tip-{len(tips)}"
        tips[gid] = _tip(result)
        axes.plot(
            [across], [up], gid=gid, marker="o", color=TONES[q], markeredgewidth=1.4,
            markerfacecolor=TONES[q] if result.valid else PAPER,
        )  # fmt: skip
    return x[-1], y[-1], f"p{q * 100:g}"


def _label_ends(axes: Axes, ends: list[tuple[float, float, str]]) -> None:
    """Name each line at its right end, moved apart where the names would overlap."""
    least, most = (math.log(limit) for limit in axes.get_ylim())
    room = (most - least) * 0.07
    ends = sorted(ends, key=lambda end: end[1])
    places: list[float] = []
    for _, y, _ in ends:
        places.append(max(math.log(y), places[-1] + room if places else -math.inf))
    shift = sum(places) / len(places) - sum(math.log(y) for _, y, _ in ends) / len(ends)
    shift = max(shift, places[-1] - most)
    for (x, _, text), place in zip(ends, places, strict=True):
        axes.annotate(
            text, (x, math.exp(place - shift)), xytext=(9, 0), textcoords="offset points",
            va="center", color=INK, annotation_clip=False,
        )  # fmt: skip


def _tip(result: PointResult) -> str:
    lines = [level_text(result.point)]
    for q, percentile in result.percentiles.items():
        if percentile.interval_ms:
            interval = percentile.interval_ms
            lines.append(f"p{q * 100:g} {number(interval.estimate)} ms ({bounds(interval)})")
        else:
            lines.append(f"p{q * 100:g} {percentile.text} samples")
    return "\n".join([*lines, *doubt(result)])
