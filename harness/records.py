"""What a run directory holds: one row a request, one record a trial, one record a run.

Times are CLOCK_MONOTONIC in ns unless a name says otherwise. ``harness.archive`` stores and reads these.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from harness.point import Frozen, Point

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "LEAST_IN_FLIGHT",
    "LOG_ENDS",
    "METRIC_COLUMNS",
    "OUTCOME_LABELS",
    "SAMPLE_COLUMNS",
    "SAMPLE_DTYPE",
    "SCHEMA_VERSION",
    "TELEMETRY_COLUMNS",
    "Calibration",
    "CalibrationRow",
    "GeneratorHealth",
    "Outcome",
    "RunRecord",
    "StatisticsWindow",
    "TrialRecord",
    "any_point",
]

# Of N users this share must have been in flight at the server for the concurrency to be real.
LEAST_IN_FLIGHT = 0.95

# In a trial's failure, what stands between the cause and the last lines of the server's log.
LOG_ENDS = "its log ends:"

# History (a change that an older reader would misread raises it):
#   1: the first.
SCHEMA_VERSION = 1


class Outcome(enum.IntEnum):
    """What became of one request. Everything but ``OK`` is a failure and never enters a latency."""

    OK = 0
    WRONG_ANSWER = 1
    REFUSED = 2
    RESET = 3
    TIMEOUT = 4
    REJECTED = 5
    HTTP_4XX = 6
    HTTP_5XX = 7
    OTHER = 8


OUTCOME_LABELS: dict[Outcome, str] = {
    Outcome.OK: "right answer",
    Outcome.WRONG_ANSWER: "wrong answer",
    Outcome.REFUSED: "connection refused",
    Outcome.RESET: "connection reset",
    Outcome.TIMEOUT: "timed out",
    Outcome.REJECTED: "rejected by the queue policy",
    Outcome.HTTP_4XX: "client error (HTTP 4xx or its gRPC equivalent)",
    Outcome.HTTP_5XX: "server error (HTTP 5xx or its gRPC equivalent)",
    Outcome.OTHER: "other failure",
}

# One row a request, in the order of completion. Times are CLOCK_MONOTONIC in ns. In a closed loop
# ``scheduled_ns == sent_ns``. ``batch`` is the number of inferences in the request, ``user`` the
# simulated user that sent it, ``compared`` whether all of its values were held against the reference.
SAMPLE_DTYPE = np.dtype(
    [
        ("scheduled_ns", "i8"),
        ("sent_ns", "i8"),
        ("done_ns", "i8"),
        ("user", "i4"),
        ("batch", "i4"),
        ("outcome", "i1"),
        ("compared", "?"),
    ]
)
SAMPLE_COLUMNS = SAMPLE_DTYPE.names or ()

# One row a reading. ``role`` is server, stub (a Triton Python-backend process), generator or host;
# ``cpu_s`` is cumulative CPU time (of host: of all cores, idle left out); ``rss_bytes`` resident memory
# (of host: memory in use).
TELEMETRY_COLUMNS = ("time_ns", "role", "pid", "cpu_s", "rss_bytes")

# One row a reading of one counter or gauge. ``source`` says whose: ``triton`` (its ``/metrics``, names
# as there: ``nv_inference_pending_request_count``, ``nv_energy_consumption`` …), ``container``
# (``container_cpu_seconds``, ``container_memory_bytes`` of its control group), ``rapl``
# (``rapl_energy_joules`` of processors and memory, wrap-around undone) or ``nvml`` (``nvml_*`` of GPUs).
# ``labels`` is a JSON object with sorted names. What could not be read has no row. Older runs lack the table.
METRIC_COLUMNS = ("time_ns", "source", "name", "labels", "value")


class StatisticsWindow(Frozen):
    """The difference of two statistics snapshots of one model.

    The edges are the middles of the two calls, CLOCK_MONOTONIC in ns; ``edge_error_ms`` is half of the
    longer call. Each ``*_ns`` is a sum over ``*_count`` requests, as in Triton's statistics extension:
    ``success`` and ``queue`` hold every request that succeeded, ``compute_*`` those of them that the response
    cache did not answer, ``fail`` all others. ``executed_batches`` maps an executed batch size to its
    number of executions.
    """

    start_ns: int
    end_ns: int
    edge_error_ms: float
    inference_count: int
    execution_count: int
    success_count: int
    success_ns: int
    fail_count: int
    fail_ns: int
    queue_count: int
    queue_ns: int
    compute_input_count: int
    compute_input_ns: int
    compute_infer_count: int
    compute_infer_ns: int
    compute_output_count: int
    compute_output_ns: int
    cache_hit_count: int = 0
    cache_miss_count: int = 0
    executed_batches: dict[int, int] = Field(default_factory=dict)


class GeneratorHealth(Frozen):
    """How the load generator itself fared within the window.

    Attributes:
        loop_lag_p99_ms, loop_lag_max_ms: how late a 10 ms timer of its event loop fired; ``None`` where it
            did not fire in a window so short.
        cpu_s: CPU time its process used within the window, ``None`` where that was not read; ``window_s``
            that window's length.
        reconnects: connections that had to be opened again.
        unsent: requests that were due in the window and never sent (open loop).
        max_in_flight: the most requests in flight at once.
        unanswered: requests sent in the window that had no answer yet when the samples were fetched, just after it.
        waiting_ms: how long the oldest without an answer had been in flight at the window's end.
    """

    loop_lag_p99_ms: float | None
    loop_lag_max_ms: float | None
    cpu_s: float | None
    window_s: float
    reconnects: int = 0
    unsent: int = 0
    max_in_flight: int = 0
    unanswered: int = 0
    waiting_ms: float = 0.0


class TrialRecord(Frozen):
    """One point in one pass: one window.

    ``requested`` and ``effective`` are model configurations as JSON objects with the proto's names;
    ``differences`` says in words where the effective one is not what was asked for. ``failure`` says what
    broke the trial (its samples up to then are kept), ``None`` where nothing did, and ``failure_ns`` when
    that was noticed; ``notes`` what else happened to the server meanwhile. Times in ns are of
    CLOCK_MONOTONIC. Windows are ``None`` where the trial broke before its window. ``shape_start_ns`` is
    where the load's shape began, ``None`` where it has none.
    """

    index: int
    pass_index: int
    role: Literal["point", "sentinel"] = "point"
    point: Point
    started_utc: datetime
    requested: dict[str, Any]
    effective: dict[str, Any] | None
    differences: tuple[str, ...] = ()
    level_start_ns: int | None = None
    window_start_ns: int | None = None
    window_end_ns: int | None = None
    shape_start_ns: int | None = None
    warmup_reason: str = ""
    statistics: StatisticsWindow | None = None
    statistics_note: str = ""
    generator: GeneratorHealth | None = None
    failure: str | None = None
    failure_ns: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def window_s(self) -> float:
        """Length of the measured window in seconds; 0 where there was none."""
        if self.window_start_ns is None or self.window_end_ns is None:
            return 0.0
        return (self.window_end_ns - self.window_start_ns) / 1e9

    @property
    def whole(self) -> bool:
        """Whether the trial has a whole window, so that its numbers count."""
        return self.window_s > 0 and self.failure is None


def any_point(trials: Iterable[TrialRecord]) -> bool:
    """Whether anything was measured that can be reported: a sentinel alone is not."""
    return any(trial.role == "point" for trial in trials)


class CalibrationRow(Frozen):
    """What the load generator can do with one protocol, one client batch size and the tensors of a model.

    Measured on the same server with probes that have those tensors: one that answers at once (*null*) and
    one that sleeps.

    Attributes:
        models: those whose tensors were sent; none in the archive of a run that sent one model's for all.
        ceiling_rps: requests per second against the null model with ``ceiling_users`` users.
        client_cpu_ms: CPU time of the generator per request, at the ceiling.
        null_ms_p50: median latency of the null model with one user.
        own_ms: of that, the mean which the server does not account for: client and network.
        sleep_ms: how long the sleeping model sleeps.
        sleep_excess_ms: mean latency of the sleeping model, beyond what the server accounts for.
        sleep_sd_ms: standard deviation of its latency.
        users: users against the sleeping model, the run's largest concurrency.
        in_flight: the mean number of requests that the server then had in hand.
    """

    models: tuple[str, ...] = ()
    protocol: str
    batch_size: int
    ceiling_users: int
    ceiling_rps: float
    client_cpu_ms: float | None
    null_ms_p50: float
    own_ms: float
    sleep_ms: float
    sleep_excess_ms: float
    sleep_sd_ms: float
    users: int
    in_flight: float

    @property
    def proved(self) -> bool:
        """Whether N users really are N requests in flight, as the server saw them."""
        return self.in_flight >= LEAST_IN_FLIGHT * self.users


class Calibration(Frozen):
    """What the instrument itself can do, by tensors, protocol and client batch size.

    Attributes:
        clock_resolution_ns: the smallest step of the clock that requests are timed with.
        rows: one a workload, for each set of models with the same tensors.
    """

    clock_resolution_ns: int
    rows: tuple[CalibrationRow, ...]


class RunRecord(Frozen):
    """How a run was made.

    ``scenario`` is the scenario as resolved, as JSON; ``scenario_text`` the file as the user wrote it.
    ``host`` holds cpu_model, cores, memory_bytes, platform, hostname; ``packages`` versions by name;
    ``server`` kind, version, extensions and what else the server said of itself; ``model`` the exported
    model's record (backend, parity, accuracy). ``calibration`` is what the generator could do on this
    server; ``None`` where no probe could be loaded, and then its concurrency is not proved.
    """

    schema_version: int = SCHEMA_VERSION
    harness_version: str
    run_id: str
    name: str
    created_utc: datetime
    finished_utc: datetime | None = None
    status: Literal["running", "complete", "interrupted", "failed"] = "running"
    status_reason: str = ""
    scenario: dict[str, Any]
    scenario_text: str = ""
    seed: int
    command: tuple[str, ...] = ()
    planned_trials: int
    host: dict[str, Any] = Field(default_factory=dict)
    packages: dict[str, str] = Field(default_factory=dict)
    server: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    calibration: Calibration | None = None
    git_revision: str | None = None
    notes: tuple[str, ...] = ()
