"""The page's groups of figures: what each shows, in words, and its panels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.report.batches import batch_panels
from harness.report.breakdown import breakdown_panels
from harness.report.cast import MOST_WORKLOADS
from harness.report.contest import contest_panels, contest_tables
from harness.report.courses import MOST_PANELS, course_panels, shaped_results
from harness.report.drift import drift_panel
from harness.report.heatmap import MOST_MAPS, heat_maps, heat_panels
from harness.report.percentiles import percentile_panels
from harness.report.resources import resource_panels
from harness.report.tradeoff import tradeoff_panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.results import Analysis
    from harness.report.cast import Cast
    from harness.report.panels import Panel
    from harness.report.svg import StyleSheet

__all__ = ["Section", "drift_section", "figure_sections", "resource_section"]

DRIFT_LEAD = (
    "One point, the sentinel, was measured at the start, in the middle and at the end of the run. What"
    " differs here is the machine, not the configuration."
)

RESOURCE_LEAD = (
    "Means over equal parts of the run, load and pauses together. Stubs are the processes that run a"
    " model in Python. What was not read is n/a."
)


@dataclass(frozen=True)
class Section:
    """One group of figures on the page.

    Attributes:
        id, short, title, lead: its anchor, what the contents call it, its heading, and what it shows.
        panels: the figures; a section without any, and without tables, is left out.
        legend: ``configurations``, ``parts``, ``hollow`` or nothing.
        size: how large the panels are: nothing, ``small`` or ``bars``.
        tables: tables below the figures: caption, columns as (name, unit), and rows of cells.
    """

    id: str
    short: str
    title: str
    lead: str
    panels: list[Panel]
    legend: str = ""
    size: str = ""
    tables: list[tuple[str, Sequence[tuple[str, str]], list[tuple[str, ...]]]] = field(
        default_factory=list
    )


def figure_sections(analysis: Analysis, cast: Cast, sheet: StyleSheet) -> list[Section]:
    """The groups of figures, in the order of the page, but for the drift."""
    more = _first(MOST_WORKLOADS, len(analysis.workloads), "workloads")
    maps = heat_maps(analysis, cast)
    slo = " The dashed line is the SLO." if analysis.slo.p99_s is not None else ""
    return [
        Section(
            "models",
            "Models",
            "Accuracy against throughput",
            "Each mark is a model at its best configuration and load level, with its 95 % intervals both"
            " ways; further right and further up is better. The dashed line joins the front: of these no"
            " other model is as accurate and faster.",
            contest_panels(analysis, sheet),
            tables=contest_tables(analysis, cast),
        ),
        Section(
            "tradeoff",
            "Trade-off",
            "Throughput against p99",
            "Each line is a server configuration, each mark a load level, with its 95 % intervals both"
            f" ways. Further right and further down is better.{slo} The numbers are load levels.{more}",
            tradeoff_panels(analysis, cast, sheet),
            "configurations",
        ),
        Section(
            "course",
            "Over time",
            "Loads with a shape, over time",
            "Offered is what the shape asks for, sent and achieved what became of it; all passes on top of"
            " each other. Response times count from when a request was due, and stand where that was; a"
            " p99 is drawn where enough requests were due. Bands are 95 % intervals over the passes."
            + _first(MOST_PANELS, len(shaped_results(analysis)), "points whose load has a shape"),
            course_panels(analysis, cast, sheet),
        ),
        Section(
            "latency",
            "Latency",
            "Latency against load",
            "Percentiles of the latency of right answers, all passes together; the p99 with its 95 %"
            f" interval.{more}",
            percentile_panels(analysis, cast, sheet),
            "hollow",
        ),
        Section(
            "heat",
            "Heat map",
            "Throughput over instances and load",
            "Inferences per second; shades can be compared within a workload. The frame marks the"
            f" recommendation.{more}{_first(MOST_MAPS, len(maps), 'maps')}",
            heat_panels(maps, cast, sheet),
            "hollow",
            "small",
        ),
        Section(
            "time",
            "Time",
            "Where the time goes",
            "The mean latency of a request, part by part: on the client’s side from its own clock, on the"
            f" server’s from Triton’s statistics over the same windows.{more}",
            breakdown_panels(analysis, cast, sheet),
            "parts",
            "bars",
        ),
        Section(
            "batches",
            "Batches",
            "Executed batch sizes",
            "Is dynamic batching working? A line above the dashed one says that the server put requests"
            f" together.{more}",
            batch_panels(analysis, cast, sheet),
            "configurations",
        ),
    ]


def _first(most: int, count: int, things: str) -> str:
    """The sentence for a lead where not all are drawn."""
    return f" The first {most} of {count:,} {things} are drawn." if count > most else ""


def drift_section(analysis: Analysis, sheet: StyleSheet) -> Section:
    """What the sentinel trials show; it stands by itself, after how it was measured."""
    drifted = drift_panel(analysis, sheet)
    return Section("drift", "Drift", "Drift", DRIFT_LEAD, [drifted] if drifted else [])


def resource_section(analysis: Analysis, sheet: StyleSheet) -> Section:
    """CPU and memory over the whole run: whether something was short, or grew."""
    panels = resource_panels(analysis.resources, sheet)
    return Section("resources", "Resources", "CPU and memory over the run", RESOURCE_LEAD, panels)
