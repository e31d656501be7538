"""The tables of an analysis: one row a point, one row a trial."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from harness.analysis.trial import trial_row
from harness.point import ClosedLoad
from harness.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.analysis.point_result import PointResult
    from harness.analysis.trial import TrialMeasures

__all__ = ["COLUMNS", "point_table", "trial_table"]

# The columns of summary.csv that every reader may count on, in their order.
COLUMNS = (
    "point", "model", "backend", "instances", "max_batch_size", "dynamic_batching",
    "max_queue_delay_us", "protocol", "batch_size", "load", "concurrency", "offered_rate", "passes",
    "window_s", "requests", "errors", "wrong_answers", "throughput", "throughput_low",
    "throughput_high", "latency_ms_mean", "latency_ms_p50", "latency_ms_p90", "latency_ms_p95",
    "latency_ms_p99", "latency_ms_p99_low", "latency_ms_p99_high", "client_gap_ms", "queue_ms",
    "compute_input_ms", "compute_infer_ms", "compute_output_ms", "executed_batch_mean",
    "client_cpu_cores", "server_cpu_cores", "verdict", "reasons",
)  # fmt: skip

# Whole numbers that do not apply everywhere: pandas would turn them into floats.
WHOLE_NUMBERS = (
    *("instances", "max_batch_size"),
    *("max_queue_delay_us", "concurrency", "server_requests", "server_rss_bytes"),
    *("unsent_requests", "late_requests"),
)
WHOLE_NUMBERS_OF_TRIALS = ("server_requests", "due", "sent", "unsent", "late", "reconnects")
# Failures with columns of their own; a wrong answer is counted in one of the columns above.
FAILURES = [kind for kind in Outcome if kind not in {Outcome.OK, Outcome.WRONG_ANSWER}]


def point_table(results: Iterable[PointResult]) -> pd.DataFrame:
    """One row a point: :data:`COLUMNS`, then what else is known. Missing cells are NaN."""
    table = pd.DataFrame([_point_row(result) for result in results])
    return table.astype(dict.fromkeys(WHOLE_NUMBERS, "Int64"))


def trial_table(trials: Iterable[TrialMeasures]) -> pd.DataFrame:
    """One row a trial, in the order of measurement, sentinels included."""
    table = pd.DataFrame([trial_row(trial) for trial in trials])
    return table.astype(dict.fromkeys(WHOLE_NUMBERS_OF_TRIALS, "Int64"))


def _point_row(result: PointResult) -> dict[str, object]:
    point, configuration, load = result.point, result.point.configuration, result.point.load
    batching, parts = configuration.dynamic_batching, result.breakdown
    intervals = {
        f"p{q * 100:g}": percentile.interval_ms for q, percentile in result.percentiles.items()
    }
    latency = {
        f"latency_ms_{name}": interval.estimate if interval else None
        for name, interval in intervals.items()
    }
    bounds = {
        f"latency_ms_{name}_{side}": getattr(interval, side) if interval else None
        for name, interval in [("mean", result.latency_mean_ms), *intervals.items()]
        for side in ("low", "high")
    }
    row: dict[str, object] = {
        "point": result.key,
        "model": configuration.model,
        "backend": result.backend,
        "instances": configuration.instances,
        "max_batch_size": configuration.max_batch_size,
        "dynamic_batching": "off" if batching is None else "on",
        "max_queue_delay_us": None if batching is None else batching.max_queue_delay_us,
        "protocol": point.workload.protocol,
        "batch_size": point.workload.batch_size,
        "load": load.shape if load.kind == "shaped" else load.kind,
        "concurrency": load.concurrency if isinstance(load, ClosedLoad) else None,
        "offered_rate": None if isinstance(load, ClosedLoad) else load.rate,
        "passes": result.passes,
        "window_s": result.window_s,
        "requests": result.requests,
        "errors": result.errors,
        "wrong_answers": result.wrong_answers,
        "throughput": result.throughput.estimate,
        "throughput_low": result.throughput.low,
        "throughput_high": result.throughput.high,
        "latency_ms_mean": result.latency_mean_ms.estimate,
        **latency,
        "client_gap_ms": result.client_gap_ms,
        "queue_ms": parts and parts.queue_ms,
        "compute_input_ms": parts and parts.compute_input_ms,
        "compute_infer_ms": parts and parts.compute_infer_ms,
        "compute_output_ms": parts and parts.compute_output_ms,
        "executed_batch_mean": result.executed_batch_mean,
        "client_cpu_cores": result.client_cpu_cores,
        "server_cpu_cores": result.server_cpu_cores,
        "verdict": str(result.verdict),
        "reasons": "; ".join(result.reasons),
        **bounds,
        "kind": configuration.kind,
        "gpus": " ".join(map(str, configuration.gpus)),
        "client_and_network_ms": parts and parts.client_and_network_ms,
        "server_other_ms": parts and parts.server_other_ms,
        "server_requests": result.server_requests,
        "concurrency_seen": result.concurrency_seen,
        "other_cpu_cores": result.other_cpu_cores,
        "server_rss_bytes": result.server_rss_bytes,
        "ceiling_share": result.ceiling_share,
        "pending_mean": result.metrics.pending_mean,
        "pending_max": result.metrics.pending_max,
        "gpu_joules_per_1000": result.metrics.gpu_joules_per_1000,
        "cpu_joules_per_1000": result.metrics.cpu_joules_per_1000,
        "gpu_utilization": result.metrics.gpu_utilization,
        "gpu_memory_bytes": result.metrics.gpu_memory_bytes,
        **_goodput(result),
        **_failures(result),
        **_open_loop(result),
    }
    if configuration.as_found:  # nobody knows how the server is set
        row |= dict.fromkeys(("instances", "max_batch_size", "dynamic_batching", "kind"))
    rest = [name for name in row if name not in COLUMNS]
    return {name: math.nan if row[name] is None else row[name] for name in (*COLUMNS, *rest)}


def _goodput(result: PointResult) -> dict[str, object]:
    interval = result.goodput
    return {
        "goodput": interval.estimate,
        "goodput_low": interval.low,
        "goodput_high": interval.high,
    }


def _failures(result: PointResult) -> dict[str, object]:
    """Failures by kind, and how long they took: that never enters a latency column."""
    counts: dict[str, object] = {
        f"errors_{kind.name.lower()}": result.failures.get(kind, 0) for kind in FAILURES
    }
    return counts | {
        f"failed_ms_{kind.name.lower()}": result.failure_ms.get(kind)
        for kind in (Outcome.WRONG_ANSWER, *FAILURES)
    }


def _open_loop(result: PointResult) -> dict[str, object]:
    """What became of the schedule, and service times (from the actual send) beside response times."""
    arrivals = result.arrivals
    row: dict[str, object] = {
        "due_rate": arrivals and arrivals.due_rps,
        "sent_rate": arrivals and arrivals.sent_rps,
        "achieved_rate": arrivals and arrivals.achieved_rps,
        "unsent_requests": arrivals and arrivals.unsent,
        "late_requests": arrivals and arrivals.late,
        "in_flight_capped": arrivals and arrivals.capped,
        "service_ms_mean": arrivals and result.service_mean_ms.estimate,
    }
    for q, percentile in result.service_percentiles.items():
        known = percentile.interval_ms if arrivals else None
        name = f"service_ms_p{q * 100:g}"
        row[name] = known.estimate if known else None
        row |= {f"{name}_{side}": known and getattr(known, side) for side in ("low", "high")}
    return row
