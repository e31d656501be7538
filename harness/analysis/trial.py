"""One trial measured: what its window says, before anything is pooled or judged."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.metrics import UNKNOWN, WindowMetrics, window_metrics
from harness.analysis.samples import cut
from harness.analysis.usage import GENERATOR, HOST, SERVER, Usage, usage
from harness.point import ClosedLoad
from harness.records import Outcome
from harness.statistics.counts import quantile_is_supported

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import pyarrow as pa

    from harness.analysis.samples import WindowSamples
    from harness.archive import RunDirectory
    from harness.records import TrialRecord

    Floats = npt.NDArray[np.float64]

# A request sent later than this after it was due was sent late.
LATE_MS = 1.0

__all__ = ["TrialMeasures", "measure_trial", "trial_row"]


@dataclass(frozen=True)
class TrialMeasures:
    """What one window says.

    Attributes:
        record: the trial.
        window_s: length of its window; 0 where the trial broke before it had one.
        requests: requests that ended within it.
        inferences: inferences with a right answer within it.
        failures: requests that ended otherwise, by kind.
        failure_ms: from send to failure of each of those, by kind, shape (failures,).
        latency_ms: response times of right answers, from the scheduled send, in the order of completion,
            shape (right answers,).
        service_ms: their service times, from the actual send; the same in a closed loop.
        done_s: when they came, in seconds from the window's start.
        due, sent: requests that were due and that were sent within the window; what was never sent is due.
        late: requests sent more than 1 ms after they were due; ``slip_p99_ms`` how late (p99).
        capped: whether as many were in flight as may be, so that others had to wait; only in an open loop.
        mean_cycle_ms: mean latency (whatever the answer) and client gap together; NaN in an open loop.
        client_gap_ms: mean time between an answer and the same user's next send; NaN in an open loop.
        users: how many different users got an answer.
        slowest_ms: the slowest request, whatever its answer.
        longest_silence_ms: the longest time with requests in flight and not one answer.
        waiting_ms: how long the oldest request without an answer had been in flight at the window's end.
        client_cpu_cores, server_cpu_cores, server_rss_bytes: NaN (0 bytes) without telemetry.
        other_cpu_cores: what all other processes of this machine used; NaN without telemetry.
        metrics: pending requests, energy and GPUs, where they were read.
    """

    record: TrialRecord
    window_s: float
    requests: int
    inferences: int
    failures: Mapping[Outcome, int]
    failure_ms: Mapping[Outcome, Floats]
    latency_ms: Floats
    service_ms: Floats
    done_s: Floats
    due: int
    sent: int
    late: int
    slip_p99_ms: float
    capped: bool
    mean_cycle_ms: float
    client_gap_ms: float
    users: int
    slowest_ms: float
    longest_silence_ms: float
    waiting_ms: float
    client_cpu_cores: float
    server_cpu_cores: float
    server_rss_bytes: int
    other_cpu_cores: float
    metrics: WindowMetrics = UNKNOWN

    @property
    def whole(self) -> bool:
        """Whether the trial has a whole window, so that its numbers count."""
        return self.record.whole

    @property
    def throughput(self) -> float:
        """Inferences per second with a right answer; NaN without a whole window."""
        return self.inferences / self.window_s if self.whole else math.nan

    @property
    def halves(self) -> tuple[int, int]:
        """Right answers in the first and in the second half of the window."""
        early = int(np.count_nonzero(self.done_s < self.window_s / 2))
        return early, len(self.done_s) - early

    @property
    def server_requests(self) -> int | None:
        """Requests that the server counted in the window; ``None`` without statistics."""
        statistics = self.record.statistics
        return statistics.success_count + statistics.fail_count if statistics else None


def measure_trial(run: RunDirectory, record: TrialRecord) -> TrialMeasures:
    """Cut the window out of a trial's samples and measure it.

    Raises:
        UsageError: the trial's files are unreadable.
    """
    start_ns, end_ns = record.window_start_ns, record.window_end_ns
    if start_ns is None or end_ns is None or end_ns <= start_ns:
        start_ns = end_ns = 0
    closed = record.point.load.kind == "closed"
    health = record.generator
    window = cut(
        run.samples(record.index),
        start_ns,
        end_ns,
        closed=closed,
        waiting_ms=health.waiting_ms if health else 0.0,
    )
    telemetry = run.telemetry(record.index)
    inferences = int(window.batch[window.right].sum())
    metrics = window_metrics(
        run.metrics(record.index), record.point.configuration.model, start_ns, end_ns, inferences
    )
    server = _server_usage(telemetry, metrics, start_ns, end_ns) if end_ns else None
    host = usage(telemetry, HOST, start_ns, end_ns) if end_ns else None
    client = _client_cores(record, telemetry, window)
    gap_ms = _mean(window.gap_ms[np.isfinite(window.gap_ms)]) if closed else math.nan
    outcomes = Counter(window.outcome.tolist())
    right = window.right
    slip_ms = (window.sent_ns - window.scheduled_ns) / 1e6
    failures = {Outcome(kind): n for kind, n in sorted(outcomes.items()) if kind != Outcome.OK}
    return TrialMeasures(
        record=record,
        window_s=(end_ns - start_ns) / 1e9,
        requests=len(window.done_ns),
        inferences=inferences,
        failures=failures,
        failure_ms={kind: window.service_ms[window.outcome == kind] for kind in failures},
        latency_ms=window.response_ms[right],
        service_ms=window.service_ms[right],
        done_s=(window.done_ns[right] - start_ns) / 1e9,
        due=window.due + (health.unsent + health.unanswered if health else 0),
        sent=window.sent + (health.unanswered if health else 0),
        late=int(np.count_nonzero(slip_ms > LATE_MS)),
        slip_p99_ms=float(np.quantile(slip_ms, 0.99)) if len(slip_ms) else math.nan,
        capped=_capped(record),
        mean_cycle_ms=_mean(window.service_ms) + gap_ms,
        client_gap_ms=gap_ms,
        users=len(np.unique(window.user)),
        slowest_ms=float(window.service_ms.max(initial=0.0)),
        longest_silence_ms=window.longest_silence_ms,
        waiting_ms=window.waiting_ms,
        client_cpu_cores=client,
        server_cpu_cores=server.cores if server else math.nan,
        server_rss_bytes=server.rss_bytes if server else 0,
        other_cpu_cores=max(0.0, host.cores - server.cores - client)
        if host and server
        else math.nan,
        metrics=metrics,
    )


def _server_usage(
    telemetry: pa.Table, metrics: WindowMetrics, start_ns: int, end_ns: int
) -> Usage | None:
    """What the server's processes used, or its container where they are not seen from here."""
    seen = usage(telemetry, SERVER, start_ns, end_ns)
    if seen is None and metrics.container_cores is not None:
        return Usage(metrics.container_cores, round(metrics.container_memory_bytes or 0))
    return seen


def _capped(record: TrialRecord) -> bool:
    load, health = record.point.load, record.generator
    return (
        not isinstance(load, ClosedLoad)
        and health is not None
        and health.max_in_flight >= load.max_in_flight
    )


def _client_cores(record: TrialRecord, telemetry: pa.Table, window: WindowSamples) -> float:
    """The generator's own account of its CPU within the window, or else the telemetry's."""
    health = record.generator
    if health is not None and health.cpu_s is not None and health.window_s > 0:
        return health.cpu_s / health.window_s
    if window.end_ns == 0:
        return math.nan
    seen = usage(telemetry, GENERATOR, window.start_ns, window.end_ns)
    return seen.cores if seen else math.nan


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def trial_row(trial: TrialMeasures) -> dict[str, object]:
    """One row of ``trials.csv``."""
    record, health = trial.record, trial.record.generator
    wrong = trial.failures.get(Outcome.WRONG_ANSWER, 0)
    latency, open_loop = trial.latency_ms, not isinstance(record.point.load, ClosedLoad)
    p50, p99 = (
        np.quantile(latency, q, method="inverted_cdf")
        if quantile_is_supported(q, len(latency))
        else None
        for q in (0.5, 0.99)
    )
    return {
        "trial": record.index,
        "pass": record.pass_index,
        "role": record.role,
        "point": record.point.key,
        "started_utc": record.started_utc.isoformat(),
        "window_s": trial.window_s,
        "requests": trial.requests,
        "server_requests": trial.server_requests,
        "due": trial.due if open_loop else None,
        "sent": trial.sent,
        "unsent": health.unsent if health else None,
        "late": trial.late if open_loop else None,
        "errors": sum(trial.failures.values()) - wrong,
        "wrong_answers": wrong,
        "throughput": trial.throughput,
        "latency_ms_mean": _mean(latency),
        "latency_ms_p50": p50,
        "latency_ms_p99": p99,
        "slowest_ms": trial.slowest_ms,
        "client_gap_ms": trial.client_gap_ms,
        "client_cpu_cores": trial.client_cpu_cores,
        "server_cpu_cores": trial.server_cpu_cores,
        "other_cpu_cores": trial.other_cpu_cores,
        "pending_mean": trial.metrics.pending_mean,
        "pending_max": trial.metrics.pending_max,
        "gpu_joules_per_1000": trial.metrics.gpu_joules_per_1000,
        "cpu_joules_per_1000": trial.metrics.cpu_joules_per_1000,
        "loop_lag_ms_p99": health.loop_lag_p99_ms if health else None,
        "slip_ms_p99": trial.slip_p99_ms if open_loop else None,
        "loop_lag_ms_max": health.loop_lag_max_ms if health else None,
        "longest_silence_ms": trial.longest_silence_ms,
        "statistics_edge_ms": record.statistics.edge_error_ms if record.statistics else None,
        "warmup": record.warmup_reason,
        "failure": record.failure or "",
        "notes": "; ".join(record.notes),
        "reconnects": health.reconnects if health else None,
    }
