"""Points: the trials of one point put together."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.course import course_of
from harness.analysis.metrics import pool_metrics
from harness.analysis.point_result import Arrivals, Breakdown, Percentile, PointResult
from harness.analysis.sections import sections_of, serial_correlation
from harness.point import ClosedLoad
from harness.statistics.counts import quantile_is_supported, samples_needed
from harness.statistics.intervals import Interval, interval_of_passes
from harness.statistics.quantiles import quantile_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from harness.analysis.sections import Section
    from harness.analysis.trial import TrialMeasures
    from harness.point import OpenLoad, Point, ShapedLoad
    from harness.records import Outcome, StatisticsWindow
    from harness.scenario import Slo

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


def sweep_order(point: Point) -> tuple[object, ...]:
    """Sorts points as people read them: by workload, then configuration, then load."""
    configuration, workload, load = point.configuration, point.workload, point.load
    batching = configuration.dynamic_batching
    return (
        configuration.model,
        workload.protocol,
        workload.batch_size,
        configuration.max_batch_size,
        configuration.kind,
        configuration.gpus,
        configuration.instances,
        -1 if batching is None else batching.max_queue_delay_us,
        configuration.key,
        load.kind,
        load.concurrency if isinstance(load, ClosedLoad) else load.rate,
        load.key,
    )


def pool(trials: Sequence[TrialMeasures], backend: str, slo: Slo) -> PointResult:
    """Put the trials of one point together; not judged yet.

    Estimates are those of all windows together, their intervals come from the passes (from batches where
    there is one long window). Broken trials count for nothing but their index.
    """
    whole = [trial for trial in trials if trial.whole]
    point = trials[0].record.point
    size = point.workload.batch_size
    window_s = sum(trial.window_s for trial in whole)
    requests = sum(trial.requests for trial in whole)
    sections = sections_of(whole)
    cycle_ms = _weighted((trial.mean_cycle_ms, trial.requests) for trial in whole)
    bound_ms = math.inf if slo.p99_s is None else slo.p99_s * 1e3
    unjudged = PointResult(
        point=point,
        backend=backend,
        trials=tuple(trial.record.index for trial in trials),
        passes=len(whole),
        window_s=window_s,
        requests=requests,
        failures=_counts(whole),
        failure_ms=_failure_ms(whole),
        throughput=_rate(sections, lambda section: section.throughput(size)),
        throughput_of_pass={trial.record.pass_index: trial.throughput for trial in whole},
        goodput=_rate(sections, lambda section: section.goodput(size, bound_ms)),
        latency_mean_ms=_mean([section.latency_ms for section in sections]),
        percentiles={q: _percentile([s.latency_ms for s in sections], q) for q in QUANTILES},
        service_mean_ms=_mean([section.service_ms for section in sections]),
        service_percentiles={
            q: _percentile([s.service_ms for s in sections], q) for q in QUANTILES
        },
        client_gap_ms=_weighted((trial.client_gap_ms, trial.requests) for trial in whole),
        client_cpu_cores=_weighted((trial.client_cpu_cores, trial.window_s) for trial in whole),
        server_cpu_cores=_weighted((trial.server_cpu_cores, trial.window_s) for trial in whole),
        other_cpu_cores=_weighted((trial.other_cpu_cores, trial.window_s) for trial in whole),
        server_rss_bytes=max((trial.server_rss_bytes for trial in whole), default=0) or None,
        metrics=pool_metrics([trial.metrics for trial in whole]),
        concurrency_seen=requests / window_s * cycle_ms / 1e3 if cycle_ms is not None else None,
        serial_correlation=serial_correlation(sections) if len(whole) == 1 else math.nan,
        course=course_of(whole, point.load) if point.load.kind == "shaped" else (),
        arrivals=None if isinstance(point.load, ClosedLoad) else _arrivals(whole, point.load),
    )
    statistics = [trial.record.statistics for trial in whole if trial.record.statistics]
    if not statistics or len(statistics) < len(whole):
        return unjudged
    return _with_statistics(unjudged, statistics)


def _counts(trials: Sequence[TrialMeasures]) -> dict[Outcome, int]:
    counts: Counter[Outcome] = Counter()
    for trial in trials:
        counts.update(trial.failures)
    return dict(sorted(counts.items()))


def _failure_ms(trials: Sequence[TrialMeasures]) -> dict[Outcome, float]:
    """The mean latency of each kind of failure."""
    taken: dict[Outcome, list[Floats]] = {}
    for trial in trials:
        for kind, values in trial.failure_ms.items():
            taken.setdefault(kind, []).append(values)
    return {kind: float(np.concatenate(parts).mean()) for kind, parts in sorted(taken.items())}


def _arrivals(trials: Sequence[TrialMeasures], load: OpenLoad | ShapedLoad) -> Arrivals | None:
    """What became of an open load's schedule.

    The window of a shape lasts until its last request is answered, and what it offers is spread over that.
    """
    if not trials:
        return None
    window_s = sum(trial.window_s for trial in trials)
    share = load.duration_s * len(trials) / window_s if load.kind == "shaped" else 1.0
    return Arrivals(
        offered_rps=load.rate * share,
        due_rps=sum(trial.due for trial in trials) / window_s,
        sent_rps=sum(trial.sent for trial in trials) / window_s,
        achieved_rps=sum(trial.requests for trial in trials) / window_s,
        unsent=sum(trial.record.generator.unsent for trial in trials if trial.record.generator),
        late=sum(trial.late for trial in trials),
        slip_p99_ms=median(trial.slip_p99_ms for trial in trials),
        capped=any(trial.capped for trial in trials),
    )


def _with_statistics(result: PointResult, windows: Sequence[StatisticsWindow]) -> PointResult:
    """Add what the server's statistics of all windows say."""
    batches: Counter[int] = Counter()
    for window in windows:
        batches.update(window.executed_batches)
    executions = sum(window.execution_count for window in windows)
    inferences = sum(window.inference_count for window in windows)
    return replace(
        result,
        breakdown=_breakdown(windows, result),
        executed_batches=dict(sorted(batches.items())),
        executed_batch_mean=inferences / executions if executions else None,
        server_requests=sum(window.success_count + window.fail_count for window in windows),
    )


def _breakdown(windows: Sequence[StatisticsWindow], result: PointResult) -> Breakdown | None:
    """Each part over all requests that succeeded: only so do the parts add up to the mean request.

    Answers of the response cache are in the sums of ``success`` and ``queue``, and computed nothing; what
    failed is in none of these sums (Triton's ``infer_stats.cc``).
    """
    requests = sum(window.success_count for window in windows)
    service_ms = result.service_mean_ms.estimate
    if not requests or math.isnan(service_ms):
        return None

    def mean_ms(part: str) -> float:
        return float(sum(getattr(window, f"{part}_ns") for window in windows) / requests / 1e6)

    request_ms = mean_ms("success")
    queue_ms, input_ms = mean_ms("queue"), mean_ms("compute_input")
    infer_ms, output_ms = mean_ms("compute_infer"), mean_ms("compute_output")
    return Breakdown(
        client_and_network_ms=service_ms - request_ms,
        queue_ms=queue_ms,
        compute_input_ms=input_ms,
        compute_infer_ms=infer_ms,
        compute_output_ms=output_ms,
        server_other_ms=request_ms - queue_ms - input_ms - infer_ms - output_ms,
        waiting_to_send_ms=result.latency_mean_ms.estimate - service_ms,
    )


def _rate(sections: Sequence[Section], rate: Callable[[Section], float]) -> Interval:
    """A rate over all sections together, its interval from their own rates."""
    if not sections:
        return Interval(math.nan)
    of_sections = interval_of_passes([rate(section) for section in sections])
    total = sum(rate(section) * section.duration_s for section in sections)
    return replace(of_sections, estimate=total / sum(section.duration_s for section in sections))


def _mean(sections: Sequence[Floats]) -> Interval:
    """The mean of all samples; the interval is from the sections' means."""
    filled = [values for values in sections if len(values)]
    if not filled:
        return Interval(math.nan)
    of_sections = interval_of_passes([float(values.mean()) for values in filled])
    return replace(of_sections, estimate=float(np.concatenate(filled).mean()))


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
