"""The tables of the page: every point, and the open loops' offered and achieved load."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.cast import ARRIVALS, level_of
from harness.report.formats import NONE, bounds, number, percent
from harness.report.instrument import ceiling_share

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.analysis.results import Analysis, PointResult
    from harness.archive import RunRecord
    from harness.report.cast import Cast
    from harness.statistics.intervals import Interval

__all__ = ["MOST_ROWS", "OPEN_COLUMNS", "Cell", "Row", "open_rows", "point_columns", "point_rows"]

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
    ("Ended", "requests/s"),
    ("Right answers", "requests/s"),
    ("Never sent", "requests"),
    ("Never sent", "of all due"),
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
        doubt: the verdict with its reasons, in words; empty for a valid point.
        place: the colour of its configuration, counted from 1; 0 for grey.
    """

    workload: str
    cells: tuple[Cell, ...]
    valid: bool
    best: bool
    doubt: str
    place: int


def point_columns(analysis: Analysis) -> list[tuple[str, str]]:
    """The names of the columns, and their units."""
    kinds = {result.point.load.kind for result in analysis.results}
    load = {"closed": "concurrency", "open": "requests/s"}
    return [
        ("Configuration", ""),
        ("Load", load[kinds.pop()] if len(kinds) == 1 else "users, or /s"),
        *COLUMNS,
        *([("Generator", "of ceiling")] if analysis.record.calibration else []),
        ("Failed", "requests"),
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
                cells=tuple(_cells(result, cast, analysis.record)),
                valid=result.valid,
                best=result.key in best,
                doubt="" if result.valid else _doubt(result),
                place=member.place + 1 if member else 0,
            )
        )
    return rows


def _doubt(result: PointResult) -> str:
    verdict = str(result.verdict)
    return f"{verdict[:1].upper()}{verdict[1:]}: {'; '.join(result.reasons)}"


def _cells(result: PointResult, cast: Cast, record: RunRecord) -> Iterable[Cell]:
    name = cast.name(result.point.configuration)
    yield Cell(name, order=name)
    yield Cell(_short_level(result), order=level_of(result.point))
    yield _estimate(result.throughput)
    for percentile in result.percentiles.values():
        if percentile.interval_ms is None:
            yield Cell(percentile.text if percentile.samples else NONE, order=math.inf)
        elif percentile.q == 0.99:
            yield _estimate(percentile.interval_ms)
        else:
            yield _plain(percentile.interval_ms.estimate)
    parts = result.breakdown
    yield _plain(parts.queue_ms if parts else None)
    yield _plain(parts.compute_infer_ms if parts else None)
    yield _plain(result.executed_batch_mean)
    yield _plain(result.server_cpu_cores)
    if record.calibration:
        share = ceiling_share(record, result)
        yield Cell(percent(share), order=_order(share))
    failed = result.errors + result.wrong_answers
    kinds = f"{number(result.wrong_answers)} wrong" if result.wrong_answers else ""
    yield Cell(number(failed), small=kinds, order=failed)
    yield Cell("valid" if result.valid else "doubtful", order=str(result.verdict))


def _short_level(result: PointResult) -> str:
    load = result.point.load
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


def _order(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value


def open_rows(analysis: Analysis, cast: Cast) -> list[tuple[str, ...]]:
    """For each point of an open loop: what was offered, what ended, and what was never sent."""
    rows: list[tuple[str, ...]] = []
    for result in analysis.results:
        load = result.point.load
        if load.kind != "open" or len(rows) >= MOST_ROWS:
            continue
        measured = set(result.trials)
        trials = [trial for trial in analysis.trial_records if trial.index in measured]
        unsent = sum(trial.generator.unsent for trial in trials if trial.generator)
        right = result.requests - result.errors - result.wrong_answers
        window_s = result.window_s or math.nan
        rows.append(
            (
                f"{result.point.workload.label}: {cast.name(result.point.configuration)}",
                ARRIVALS[load.arrivals],
                number(load.rate),
                number(result.requests / window_s),
                number(right / window_s),
                number(unsent),
                percent(unsent / (unsent + result.requests) if unsent else 0.0),
            )
        )
    return rows
