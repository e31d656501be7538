"""Which server configurations a report draws in colour, and what everything is called on the page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.formats import THIN, bounds, number
from harness.report.style import MARKS, SERIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis, WorkloadResult
    from harness.point import Point, ServerConfiguration

__all__ = [
    "ARRIVALS",
    "MOST_WORKLOADS",
    "Cast",
    "Member",
    "cast_of",
    "doubt",
    "level_axis",
    "level_of",
    "level_text",
    "names_of",
    "results_of",
    "series_of",
    "tip",
]

# Beyond this many workloads figures would bury the answer: the tables go on.
MOST_WORKLOADS = 8

ARRIVALS = {"poisson": "Poisson", "constant": "evenly spaced", "replayed": "replayed"}


@dataclass(frozen=True)
class Member:
    """One server configuration that is drawn in colour.

    Attributes:
        configuration: the server configuration.
        place: its colour and mark, counted from 0.
        is_default: whether it is what the others are compared with.
    """

    configuration: ServerConfiguration
    place: int
    is_default: bool

    @property
    def colour(self) -> str:
        """Placeholder of its colour."""
        return SERIES[self.place]

    @property
    def mark(self) -> str:
        """Its mark, by matplotlib's name."""
        return MARKS[self.place]


@dataclass(frozen=True)
class Cast:
    """What is drawn in colour, and the names of all.

    Attributes:
        members: by model, the best configurations; a configuration has one colour all over the page.
        names: every configuration's name for people, by key.
        workloads: those that figures are drawn of.
        titles: a title for each of the run's workloads, by model and workload key.
    """

    members: Mapping[str, tuple[Member, ...]]
    names: Mapping[str, str]
    workloads: tuple[WorkloadResult, ...]
    titles: Mapping[tuple[str, str], str]

    def name(self, configuration: ServerConfiguration) -> str:
        """A configuration's name for people, unique in the run."""
        return self.names[configuration.key]

    def full_name(self, configuration: ServerConfiguration) -> str:
        """A configuration's name where there is room for all of it."""
        name = self.name(configuration)
        if configuration.dynamic_batching is None:
            return name
        return name.replace(", delay", ", dynamic batching, delay", 1)

    def title(self, workload: WorkloadResult) -> str:
        """A workload's title; the model is part of it where the run has several."""
        return self.titles[workload.model, workload.workload.key]

    def member(self, configuration: ServerConfiguration) -> Member | None:
        """The colour and mark of a configuration; ``None`` where it is drawn in grey."""
        for member in self.members.get(configuration.model, ()):
            if member.configuration == configuration:
                return member
        return None


def cast_of(analysis: Analysis) -> Cast:
    """Choose what is drawn: each workload's winner, the default, then the best on the average."""
    models = dict.fromkeys(result.model for result in analysis.workloads)
    titles = {
        (result.model, result.workload.key): result.label
        if len(models) > 1
        else result.workload.label
        for result in analysis.workloads
    }
    configurations = [result.point.configuration for result in analysis.results]
    return Cast(
        members={model: _members(analysis, model) for model in models},
        names=names_of(configurations),
        workloads=analysis.workloads[:MOST_WORKLOADS],
        titles=titles,
    )


def _members(analysis: Analysis, model: str) -> tuple[Member, ...]:
    results = [result for result in analysis.workloads if result.model == model]
    places: Counter[str] = Counter()
    known: dict[str, ServerConfiguration] = {}
    for result in results:
        for place, ranked in enumerate(result.ranking):
            places[ranked.configuration.key] += place
            known[ranked.configuration.key] = ranked.configuration
    winners = [result.winner.configuration.key for result in results if result.winner]
    defaults = [result.default.configuration.key for result in results if result.default]
    by_rank = sorted(known, key=lambda key: (places[key], key))
    most_won = [key for key, _ in Counter(winners).most_common()]
    # The default is never crowded out by winners of many workloads.
    first = most_won[: len(SERIES) - len(defaults[:1])] + defaults[:1]
    chosen = list(dict.fromkeys([*first, *by_rank]))[: len(SERIES)]
    return tuple(
        Member(known[key], place, is_default=key in defaults) for place, key in enumerate(chosen)
    )


def names_of(configurations: Iterable[ServerConfiguration]) -> dict[str, str]:
    """A name for every configuration, with its maximum batch size where that tells two apart."""
    distinct = {configuration.key: configuration for configuration in configurations}
    labels = Counter((each.model, each.label) for each in distinct.values())
    return {
        key: each.label.replace(" µs", f"{THIN}µs")
        if labels[each.model, each.label] == 1
        else f"{each.label}, max batch {each.max_batch_size}"
        for key, each in distinct.items()
    }


def results_of(analysis: Analysis, workload: WorkloadResult) -> list[PointResult]:
    """The points of one workload of one model, in the order of the sweep."""
    return [
        result
        for result in analysis.results
        if result.point.configuration.model == workload.model
        and result.point.workload == workload.workload
    ]


def series_of(
    results: Iterable[PointResult], configuration: ServerConfiguration
) -> list[PointResult]:
    """The points of one configuration, closed loops first, in the order of the load."""
    own = [result for result in results if result.point.configuration == configuration]
    return sorted(own, key=lambda result: (result.point.load.kind, level_of(result.point)))


def level_of(point: Point) -> float:
    """The load level as a number: users in a closed loop, requests per second in an open one."""
    return float(point.load.concurrency if point.load.kind == "closed" else point.load.rate)


def level_text(point: Point) -> str:
    """The load level in words, such as ``concurrency 16``."""
    if point.load.kind == "closed":
        return f"concurrency\u00a0{point.load.concurrency:,}"
    if point.load.kind == "shaped":
        return point.load.key
    return f"{number(point.load.rate)}\u00a0requests/s, {ARRIVALS[point.load.arrivals]} arrivals"


def level_axis(kind: str) -> str:
    """What an axis of load levels is called."""
    return "concurrency" if kind == "closed" else "offered rate, requests/s"


def tip(cast: Cast, result: PointResult) -> str:
    """What a point says where the pointer rests on it."""
    p99 = result.p99_ms
    lines = [
        f"{cast.name(result.point.configuration)}, {level_text(result.point)}",
        f"{number(result.throughput.estimate)} inferences/s ({bounds(result.throughput)})",
        f"p99 {number(p99.estimate)} ms ({bounds(p99)})"
        if p99
        else f"p99 {result.percentiles[0.99].text} samples",
    ]
    return "\n".join([*lines, *doubt(result)])


def doubt(result: PointResult) -> tuple[str, ...]:
    """The line that a doubtful point has more than a valid one."""
    return () if result.valid else (f"doubtful: {result.verdict}",)
