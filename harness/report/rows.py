"""The tables of the page: every point, and the open loops' offered and achieved load."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.records import OUTCOME_LABELS
from harness.report.cast import ARRIVALS, level_of, level_text
from harness.report.formats import NONE, bounds, number, percent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis
    from harness.report.cast import Cast
    from harness.statistics.intervals import Interval

__all__ = [
    "FAILURE_COLUMNS",
    "MOST_ROWS",
    "OPEN_COLUMNS",
    "Cell",
    "Row",
    "failure_rows",
    "open_rows",
    "point_columns",
    "point_rows",
]

# Beyond this many rows a browser on a phone gives up; summary.csv has them all.
MOST_ROWS = 1000

COLUMNS = (
    ("Throughput", "inferences/s"),
    ("p50", "ms"),
    ("p90", "ms"),
    ("p95", "ms"),
    ("p99", "ms"),
    ("Queue", "ms"),
    ("Infer", "ms"),
    ("Batch", "executed"),
    ("Server", "cores"),
)

OPEN_COLUMNS = (
    ("Point", ""),
    ("Arrivals", ""),
    ("Offered", "requests/s"),
    ("Due", "requests/s"),
    ("Sent", "requests/s"),
    ("Achieved", "requests/s"),
    ("Never sent", "requests"),
    ("Late", "over 1 ms"),
    ("Response p99", "ms"),
    ("Service p99", "ms"),
    ("Cap in flight", ""),
)

FAILURE_COLUMNS = (
    ("Point", ""),
    ("Load", ""),
    ("Kind", ""),
    ("Failed", "requests"),
    ("Share", "of all"),
    ("Mean latency", "ms"),
)


@dataclass(frozen=True)
class Cell:
    """One cell: what it says, in small print below it, and what it is sorted by."""

    text: str
    small: str = ""
    order: float | str = ""


@dataclass(frozen=True)
class Row:
    """One point: its cells in the order of :func:`point_columns`, and how it stands.

    Attributes:
        workload: the group that the row belongs to.
        remark: the verdict with its reasons, in words; empty for most valid points.
        place: the colour of its configuration, counted from 1; 0 for grey.
    """

    workload: str
    cells: tuple[Cell, ...]
    valid: bool
    best: bool
    remark: str
    place: int


def point_columns(analysis: Analysis) -> list[tuple[str, str]]:
    """The names of the columns, and their units."""
    kinds = {result.point.load.kind for result in analysis.results}
    load = {"closed": "concurrency", "open": "requests/s", "shaped": "shape"}
    return [
        ("Configuration", ""),
        ("Load", load[kinds.pop()] if len(kinds) == 1 else "users, or /s"),
        *COLUMNS,
        *([("Ceiling", "used")] if analysis.record.calibration else []),
        ("Pending", "mean, most"),
        *_energies(analysis),
        ("Failed", ""),
        ("Verdict", ""),
    ]


def point_rows(analysis: Analysis, cast: Cast) -> list[Row]:
    """A row a point, in the order of the sweep, at most :data:`MOST_ROWS` of them."""
    best = {
        workload.winner.best.key
        for workload in analysis.workloads
        if workload.winner and workload.winner.best
    }
    order = {
        (workload.model, workload.workload): place
        for place, workload in enumerate(analysis.workloads)
    }
    results = sorted(
        analysis.results,
        key=lambda result: order[result.point.configuration.model, result.point.workload],
    )
    rows = []
    for result in results[:MOST_ROWS]:
        point = result.point
        member = cast.member(point.configuration)
        rows.append(
            Row(
                workload=cast.titles[point.configuration.model, point.workload.key],
                cells=tuple(
                    _cells(
                        result,
                        cast,
                        calibrated=analysis.record.calibration is not None,
                        energies=[name for name, _ in _energies(analysis)],
                    )
                ),
                valid=result.valid,
                best=result.key in best,
                remark=_remark(result),
                place=member.place + 1 if member else 0,
            )
        )
    return rows


def _remark(result: PointResult) -> str:
    said = "; ".join(result.reasons)
    if not result.valid:
        said = f"{result.verdict}: {said}"
    return said[:1].upper() + said[1:]


def _energies(analysis: Analysis) -> list[tuple[str, str]]:
    """The columns of energy counters that this run could read at all."""
    known = {
        "GPU energy": any(
            result.metrics.gpu_joules_per_1000 is not None for result in analysis.results
        ),
        "CPU energy": any(
            result.metrics.cpu_joules_per_1000 is not None for result in analysis.results
        ),
    }
    return [(name, "J per 1,000") for name, is_known in known.items() if is_known]


def _cells(
    result: PointResult, cast: Cast, *, calibrated: bool, energies: Collection[str]
) -> Iterable[Cell]:
    name = cast.name(result.point.configuration)
    yield Cell(name, order=name)
    yield Cell(_short_level(result), order=level_of(result.point))
    yield _estimate(result.throughput)
    for percentile in result.percentiles.values():
        if percentile.interval_ms is None:
            yield Cell(percentile.text if percentile.samples else NONE, order=math.inf)
        else:
            yield _estimate(percentile.interval_ms)
    parts = result.breakdown
    yield _plain(parts.queue_ms if parts else None)
    yield _plain(parts.compute_infer_ms if parts else None)
    yield _plain(result.executed_batch_mean)
    yield _plain(result.server_cpu_cores)
    if calibrated:
        yield Cell(percent(result.ceiling_share), order=_order(result.ceiling_share))
    seen = result.metrics
    yield _known(seen.pending_mean, most=seen.pending_max)
    if "GPU energy" in energies:
        yield _known(seen.gpu_joules_per_1000)
    if "CPU energy" in energies:
        yield _known(seen.cpu_joules_per_1000)
    failed = result.errors + result.wrong_answers
    kinds = f"{number(result.wrong_answers)} wrong" if result.wrong_answers else ""
    yield Cell(number(failed), small=kinds, order=failed)
    yield Cell("valid" if result.valid else "doubtful", order=str(result.verdict))


def _short_level(result: PointResult) -> str:
    load = result.point.load
    if load.kind == "shaped":
        return load.key
    return number(load.concurrency) if load.kind == "closed" else f"{number(load.rate)}/s"


def _estimate(interval: Interval) -> Cell:
    said = bounds(interval)
    return Cell(
        number(interval.estimate),
        small="" if said == NONE else said,
        order=_order(interval.estimate),
    )


def _plain(value: float | None) -> Cell:
    return Cell(number(value), order=_order(value))


def _known(value: float | None, *, most: float | None = None) -> Cell:
    """A value from telemetry, which may be missing: that is not 0."""
    if value is None:
        return Cell("n/a", order=math.inf)
    return Cell(number(value), small="" if most is None else number(most), order=value)


def _order(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value


def open_rows(analysis: Analysis, cast: Cast) -> list[tuple[str, ...]]:
    """For each point of an open loop what became of its schedule, in the order of its columns: all of them."""
    rows: list[tuple[str, ...]] = []
    for result in analysis.results:
        load, arrivals = result.point.load, result.arrivals
        if load.kind == "closed" or arrivals is None:
            continue
        response, service = (
            percentiles[0.99].interval_ms if 0.99 in percentiles else None
            for percentiles in (result.percentiles, result.service_percentiles)
        )
        rows.append(
            (
                _name(result, cast),
                ARRIVALS[load.arrivals],
                number(load.rate),
                number(arrivals.due_rps),
                number(arrivals.sent_rps),
                number(arrivals.achieved_rps),
                number(arrivals.unsent),
                number(arrivals.late),
                _with_bounds(response),
                _with_bounds(service),
                "reached" if arrivals.capped else "not reached",
            )
        )
    return rows


def _name(result: PointResult, cast: Cast) -> str:
    """A point's workload and configuration, with the mark of a doubtful one."""
    mark = "" if result.valid else "○ "
    return f"{mark}{result.point.workload.label}: {cast.name(result.point.configuration)}"


def _with_bounds(interval: Interval | None) -> str:
    if interval is None:
        return NONE
    said = bounds(interval)
    estimate = number(interval.estimate)
    return estimate if said == NONE else f"{estimate} ({said})"


def failure_rows(analysis: Analysis, cast: Cast) -> list[tuple[str, ...]]:
    """For each point and kind of failure how many, and how long they took: all of them."""
    return [
        (
            _name(result, cast),
            level_text(result.point),
            OUTCOME_LABELS[kind],
            number(count),
            percent(count / result.requests if result.requests else None),
            number(result.failure_ms.get(kind)),
        )
        for result in analysis.results
        for kind, count in result.failures.items()
        if count
    ]
