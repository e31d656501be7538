"""The answer for machines: ``summary.json``, with every interval, verdict and reason.

``schema`` is raised by a change that an older reader would misread. What is not known, or has no number
(NaN, infinity), is ``null``. Times are in milliseconds, throughput in inferences per second.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.analysis.contest import compete
from harness.statistics.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.analysis.contest import Contender
    from harness.analysis.point_result import Percentile, PointResult
    from harness.analysis.results import Analysis, RankedConfiguration, WorkloadResult
    from harness.point import ServerConfiguration
    from harness.records import RunRecord

__all__ = ["SUMMARY_SCHEMA", "summary"]

SUMMARY_SCHEMA = 1


def summary(analysis: Analysis) -> dict[str, Any]:
    """What a program wants to know of a run, as JSON."""
    record = analysis.record
    return {
        "schema": SUMMARY_SCHEMA,
        "harness_version": record.harness_version,
        "run": record.run_id,
        "name": record.name,
        "created_utc": record.created_utc.isoformat(),
        "status": record.status,
        "seed": record.seed,
        "slo": {
            "p99_ms": analysis.slo.p99_s * 1e3 if analysis.slo.p99_s is not None else None,
            "errors": analysis.slo.errors,
        },
        "meets_slo": analysis.meets_slo,
        "verdict": {
            "text": analysis.verdict.text,
            "valid": analysis.verdict.valid,
            "reasons": list(analysis.verdict.reasons),
        },
        "instrument": _instrument(record),
        "workloads": [_workload(workload) for workload in analysis.workloads],
        "models": [
            {
                "workload": contest.workload.key,
                "contenders": list(map(_contender, contest.contenders)),
            }
            for contest in compete(analysis)
        ],
        "points": [_point(result) for result in analysis.results],
    }


def _instrument(record: RunRecord) -> list[dict[str, Any]] | None:
    """What the generator could do on this server, a row a workload; ``None`` where it is not proved."""
    if record.calibration is None:
        return None
    return [
        {**row.model_dump(mode="json"), "proved": row.proved} for row in record.calibration.rows
    ]


def _workload(result: WorkloadResult) -> dict[str, Any]:
    winner, default = result.winner, result.default
    return {
        "model": result.model,
        "workload": result.workload.key,
        "protocol": result.workload.protocol,
        "batch_size": result.workload.batch_size,
        "objective": result.objective,
        "reason": result.reason,
        "recommendation": _ranked(winner) if winner else None,
        "default": _ranked(default) if default else None,
        "gain": _interval(result.gain),
        "gain_is_tie": result.gain_is_tie,
        "tied": [ranked.configuration.key for ranked in result.tie_set],
        "near_ties": [ranked.configuration.key for ranked in result.near_ties],
        "doubtful": list(result.doubtful),
        "ranking": [_ranked(ranked) for ranked in result.ranking],
    }


def _ranked(ranked: RankedConfiguration) -> dict[str, Any]:
    best = ranked.best
    return {
        **_configuration(ranked.configuration),
        "point": best.key if best else None,
        "load": best.point.load.model_dump(mode="json") if best else None,
        "throughput": _interval(best.throughput) if best else None,
        "p99_ms": _interval(best.p99_ms) if best else None,
        "of_leader": _interval(ranked.behind),
        "tied": ranked.tied,
        "near_tie": ranked.near and not ranked.tied,
        "why_not": ranked.why_not or None,
    }


def _contender(contender: Contender) -> dict[str, Any]:
    best = contender.best
    return {
        "model": contender.model,
        "precision": contender.precision or None,
        "parameters": contender.parameters,
        "accuracy": _interval(contender.accuracy),
        "judged_on": contender.judged_on or None,
        "loss": contender.loss or None,
        "point": best.key if best else None,
        "throughput": _interval(best.throughput) if best else None,
        "p99_ms": _interval(best.p99_ms) if best else None,
        "of_fastest": _interval(contender.of_fastest),
        "front": contender.front,
        "why_not": contender.why_not or None,
    }


def _configuration(configuration: ServerConfiguration) -> dict[str, Any]:
    return {
        "configuration": configuration.key,
        "label": configuration.label,
        "settings": configuration.model_dump(mode="json"),
    }


def _point(result: PointResult) -> dict[str, Any]:
    parts = result.breakdown
    return {
        "point": result.key,
        "model": result.point.configuration.model,
        "configuration": result.point.configuration.key,
        "workload": result.point.workload.key,
        "load": result.point.load.model_dump(mode="json"),
        "backend": result.backend,
        "passes": result.passes,
        "trials": list(result.trials),
        "window_s": result.window_s,
        "requests": result.requests,
        "server_requests": result.server_requests,
        "failures": {kind.name.lower(): count for kind, count in result.failures.items() if count},
        "failure_ms": {
            kind.name.lower(): _number(value) for kind, value in result.failure_ms.items()
        },
        "throughput": _interval(result.throughput),
        "goodput": _interval(result.goodput),
        "latency_ms": _times(result.latency_mean_ms, result.percentiles),
        "service_ms": _times(result.service_mean_ms, result.service_percentiles),
        "arrivals": _arrivals(result),
        "course": [
            {
                name: _interval(value) if isinstance(value, Interval) else _number(value)
                for name, value in vars(part).items()
            }
            for part in result.course
        ],
        "client_gap_ms": _number(result.client_gap_ms),
        "concurrency_seen": _number(result.concurrency_seen),
        "breakdown_ms": {
            name.removesuffix("_ms"): _number(value) for name, value in vars(parts).items()
        }
        if parts
        else None,
        "executed_batches": {
            str(size): count for size, count in sorted(result.executed_batches.items())
        },
        "executed_batch_mean": _number(result.executed_batch_mean),
        "client_cpu_cores": _number(result.client_cpu_cores),
        "server_cpu_cores": _number(result.server_cpu_cores),
        "server_rss_bytes": result.server_rss_bytes,
        "pending_requests": {
            "mean": _number(result.metrics.pending_mean),
            "max": _number(result.metrics.pending_max),
        },
        "joules_per_1000_inferences": {
            "gpu": _number(result.metrics.gpu_joules_per_1000),
            "cpu": _number(result.metrics.cpu_joules_per_1000),
        },
        "gpu_utilization": _number(result.metrics.gpu_utilization),
        "gpu_memory_bytes": _number(result.metrics.gpu_memory_bytes),
        "of_generator_ceiling": _number(result.ceiling_share),
        "verdict": str(result.verdict),
        "reasons": list(result.reasons),
    }


def _times(mean: Interval, percentiles: Mapping[float, Percentile]) -> dict[str, Any]:
    return {
        "mean": _interval(mean),
        **{f"p{q * 100:g}": _percentile(each) for q, each in percentiles.items()},
    }


def _arrivals(result: PointResult) -> dict[str, Any] | None:
    """What became of an open load's schedule."""
    if result.arrivals is None:
        return None
    return {
        name: value if isinstance(value, int) else _number(value)
        for name, value in vars(result.arrivals).items()
        if name != "slip_p99_ms"  # it has no interval
    }


def _percentile(percentile: Percentile) -> dict[str, Any]:
    """The percentile with its interval, or how many samples it needs."""
    if percentile.interval_ms is None:
        return {"needs": percentile.needs, "samples": percentile.samples}
    return _interval(percentile.interval_ms) or {}


def _interval(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None or math.isnan(interval.estimate):
        return None
    return {
        "estimate": _number(interval.estimate),
        "low": _number(interval.low),
        "high": _number(interval.high),
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
