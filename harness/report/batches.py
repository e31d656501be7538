"""Executed batch sizes against the load: whether dynamic batching is working."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import FixedLocator

from harness.report.cast import doubt, level_axis, level_of, level_text, results_of, series_of
from harness.report.formats import number, percent
from harness.report.panels import Panel
from harness.report.style import MUTED, PAPER, caption, load_axis, log_axis, look, panel
from harness.report.svg import inline_svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis, WorkloadResult
    from harness.report.cast import Cast
    from harness.report.svg import StyleSheet

__all__ = ["batch_panels"]

# Below this many requests an execution, requests are put together only now and then.
LEAST_COMBINED = 1.05


def batch_panels(analysis: Analysis, cast: Cast, sheet: StyleSheet) -> list[Panel]:
    """One panel a workload and kind of load."""
    panels = []
    for place, workload in enumerate(cast.workloads):
        for kind in ("closed", "open"):
            results = [
                result
                for result in results_of(analysis, workload)
                if result.point.load.kind == kind
                and result.executed_batch_mean
                and cast.member(result.point.configuration)
            ]
            if results:
                panels.append(_panel(results, workload, cast, sheet, f"batch-{place}-{kind}"))
    return panels


def _panel(
    results: Sequence[PointResult],
    workload: WorkloadResult,
    cast: Cast,
    sheet: StyleSheet,
    name: str,
) -> Panel:
    size = workload.workload.batch_size
    largest = max(result.executed_batch_mean or size for result in results)
    tips: dict[str, str] = {}
    with look():
        figure, axes = panel()
        log_axis(axes, "y", size / 1.55, max(largest * 1.4, size * 2.2))
        levels = sorted({level_of(result.point) for result in results})
        load_axis(axes, levels, level_axis(results[0].point.load.kind))
        axes.axhline(size, color=MUTED, linewidth=1.0, linestyle=(0, (5, 3)))
        axes.annotate(
            f"client batch {size}: nothing is combined", (0.012, size),
            xycoords=("axes fraction", "data"), xytext=(0, -11), textcoords="offset points",
            color=MUTED, fontsize=9,
        )  # fmt: skip
        for member in reversed(cast.members[workload.model]):
            series = series_of(results, member.configuration)
            x = [level_of(result.point) for result in series]
            y = [result.executed_batch_mean or size for result in series]
            axes.plot(x, y, color=member.colour)
            for result, across, up in zip(series, x, y, strict=True):
                gid = f"tip-{len(tips)}"
                tips[gid] = _tip(result, cast)
                axes.plot(
                    [across], [up], gid=gid, color=member.colour, marker=member.mark,
                    markeredgewidth=1.4, markerfacecolor=member.colour if result.valid else PAPER,
                )  # fmt: skip
        possible = [value for value in axes.get_yticks() if value > 0.99 * size]
        axes.yaxis.set_major_locator(FixedLocator(possible))
        caption(axes, "inferences per execution, mean")
        svg = inline_svg(
            figure,
            sheet,
            name=name,
            title=f"Executed batch sizes, {cast.title(workload)}",
            description=" ".join(f"{text}." for text in tips.values()).replace("\n", ", "),
            tips=tips,
        )
    return Panel(cast.title(workload), "", svg, _verdict(results, workload, cast))


def _verdict(
    results: Sequence[PointResult], workload: WorkloadResult, cast: Cast
) -> tuple[str, ...]:
    """Whether batching works, in a sentence: what the best configuration executes at its best level."""
    best = workload.winner.best if workload.winner else None
    if best is None or best.executed_batch_mean is None or best not in results:
        return ()
    size = workload.workload.batch_size
    combined = best.executed_batch_mean / size
    said = (
        f"each execution takes {number(combined)} requests together on average"
        if combined >= LEAST_COMBINED
        else "each execution takes one request"
    )
    return (f"{cast.name(best.point.configuration)} at {level_text(best.point)}: {said}.",)


def _tip(result: PointResult, cast: Cast) -> str:
    """The mean and the sizes that were executed most often."""
    executions = sum(result.executed_batches.values())
    often = sorted(result.executed_batches.items(), key=lambda item: -item[1])[:4]
    shares = ", ".join(f"{size}: {percent(count / executions)}" for size, count in often)
    lines = [
        f"{cast.name(result.point.configuration)}, {level_text(result.point)}",
        f"mean executed batch {number(result.executed_batch_mean)} ({shares})",
    ]
    return "\n".join([*lines, *doubt(result)])
