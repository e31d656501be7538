"""Points: the trials of one point put together."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.results import Breakdown, Percentile, PointResult
from harness.point import ClosedLoad
from harness.statistics.counts import quantile_is_supported, samples_needed
from harness.statistics.intervals import Interval, interval_of_passes
from harness.statistics.quantiles import quantile_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from harness.analysis.trial import TrialMeasures
    from harness.archive import Outcome, StatisticsWindow
    from harness.point import Point

    Floats = npt.NDArray[np.float64]

__all__ = ["QUANTILES", "group_trials", "pool", "sweep_order"]

QUANTILES = (0.5, 0.9, 0.95, 0.99)


def group_trials(trials: Iterable[TrialMeasures]) -> list[list[TrialMeasures]]:
    """The trials of each point, points in the order of the sweep; sentinels are left out."""
    groups: dict[Point, list[TrialMeasures]] = {}
    for trial in trials:
        if trial.record.role == "point":
            groups.setdefault(trial.record.point, []).append(trial)
    return [groups[point] for point in sorted(groups, key=sweep_order)]


def sweep_order(point: Point) -> tuple[str | float, ...]:
    """Sorts points as people read them: by workload, then configuration, then load."""
    configuration, workload, load = point.configuration, point.workload, point.load
    batching = configuration.dynamic_batching
    return (
        configuration.model,
        workload.protocol,
        workload.batch_size,
        configuration.max_batch_size,
        configuration.instances,
        -1 if batching is None else batching.max_queue_delay_us,
        configuration.key,
        load.kind,
        load.concurrency if isinstance(load, ClosedLoad) else load.rate,
        load.key,
    )


def pool(trials: Sequence[TrialMeasures], backend: str) -> PointResult:
    """Put the trials of one point together; not judged yet.

    Estimates are those of all windows together, their intervals come from the passes. Broken trials count
    for nothing but their index.
    """
    whole = [trial for trial in trials if trial.whole]
    window_s = sum(trial.window_s for trial in whole)
    requests = sum(trial.requests for trial in whole)
    failures: Counter[Outcome] = Counter()
    for trial in whole:
        failures.update(trial.failures)
    cycle_ms = _weighted((trial.mean_cycle_ms, trial.requests) for trial in whole)
    unjudged = PointResult(
        point=trials[0].record.point,
        backend=backend,
        trials=tuple(trial.record.index for trial in trials),
        passes=len(whole),
        window_s=window_s,
        requests=requests,
        failures=dict(failures),
        throughput=_throughput(whole),
        throughput_of_pass={trial.record.pass_index: trial.throughput for trial in whole},
        latency_mean_ms=_mean_latency([trial.latency_ms for trial in whole]),
        percentiles={q: _percentile([trial.latency_ms for trial in whole], q) for q in QUANTILES},
        client_gap_ms=_weighted((trial.client_gap_ms, trial.requests) for trial in whole),
        client_cpu_cores=_weighted((trial.client_cpu_cores, trial.window_s) for trial in whole),
        server_cpu_cores=_weighted((trial.server_cpu_cores, trial.window_s) for trial in whole),
        server_rss_bytes=max((trial.server_rss_bytes for trial in whole), default=0) or None,
        concurrency_seen=requests / window_s * cycle_ms / 1e3 if cycle_ms is not None else None,
    )
    statistics = [trial.record.statistics for trial in whole if trial.record.statistics]
    if not statistics or len(statistics) < len(whole):
        return unjudged
    return _with_statistics(unjudged, statistics)


def _with_statistics(result: PointResult, windows: Sequence[StatisticsWindow]) -> PointResult:
    """Add what the server's statistics of all windows say."""
    batches: Counter[int] = Counter()
    for window in windows:
        batches.update(window.executed_batches)
    executions = sum(window.execution_count for window in windows)
    inferences = sum(window.inference_count for window in windows)
    return replace(
        result,
        breakdown=_breakdown(windows, result.latency_mean_ms.estimate),
        executed_batches=dict(sorted(batches.items())),
        executed_batch_mean=inferences / executions if executions else None,
        server_requests=sum(window.success_count + window.fail_count for window in windows),
    )


def _breakdown(windows: Sequence[StatisticsWindow], latency_ms: float) -> Breakdown | None:
    def mean_ms(part: str) -> float:
        count = sum(getattr(window, f"{part}_count") for window in windows)
        total_ns = sum(getattr(window, f"{part}_ns") for window in windows)
        return float(total_ns / count / 1e6) if count else 0.0

    request_ms = mean_ms("success")
    if not request_ms or math.isnan(latency_ms):
        return None
    queue_ms, input_ms = mean_ms("queue"), mean_ms("compute_input")
    infer_ms, output_ms = mean_ms("compute_infer"), mean_ms("compute_output")
    return Breakdown(
        client_and_network_ms=latency_ms - request_ms,
        queue_ms=queue_ms,
        compute_input_ms=input_ms,
        compute_infer_ms=infer_ms,
        compute_output_ms=output_ms,
        server_other_ms=request_ms - queue_ms - input_ms - infer_ms - output_ms,
    )


def _throughput(trials: Sequence[TrialMeasures]) -> Interval:
    of_passes = interval_of_passes([trial.throughput for trial in trials])
    if not trials:
        return of_passes
    window_s = sum(trial.window_s for trial in trials)
    return replace(of_passes, estimate=sum(trial.inferences for trial in trials) / window_s)


def _mean_latency(passes: Sequence[Floats]) -> Interval:
    """The mean of all samples; the interval is from the passes' means."""
    filled = [values for values in passes if len(values)]
    if not filled:
        return Interval(math.nan)
    of_passes = interval_of_passes([float(values.mean()) for values in filled])
    return replace(of_passes, estimate=float(np.concatenate(filled).mean()))


def _percentile(passes: Sequence[Floats], q: float) -> Percentile:
    samples = sum(len(values) for values in passes)
    supported = quantile_is_supported(q, samples)
    interval = quantile_interval(passes, q) if supported else None
    return Percentile(q, interval, samples, samples_needed(q))


def _weighted(pairs: Iterable[tuple[float, float]]) -> float | None:
    """The mean of values by weight; ``None`` where a value that counts is missing."""
    counted = [(value, weight) for value, weight in pairs if weight]
    if not counted or any(math.isnan(value) for value, _ in counted):
        return None
    return sum(value * weight for value, weight in counted) / sum(weight for _, weight in counted)
