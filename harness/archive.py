"""The run directory: layout, schema version, atomic writes.

    reports/<utc>-<scenario>/
      run.json                   RunRecord
      trials/0001/trial.json     TrialRecord        one folder a sealed trial, renamed into place
      trials/0001/samples.parquet    SAMPLE_COLUMNS     one row a request, warm-up and drain included
      trials/0001/telemetry.parquet  TELEMETRY_COLUMNS  one row a reading of a process
      logs/                      of the server and of the load generator
      summary.csv trials.csv summary.json index.html    made by ``harness report`` from the above

The measuring side writes it, the reading side reads it, and they meet nowhere else. Every file appears
whole or not at all: it is written beside its place, flushed to the disk and renamed. A later start can
go on after the last sealed trial.

Schema history (a change that an older reader would misread raises :data:`SCHEMA_VERSION`):
  1: the first.
"""

from __future__ import annotations

import enum
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationError

from harness.errors import EnvironmentFailedError, UsageError
from harness.point import Frozen, Point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    import pyarrow as pa

__all__ = [
    "OUTCOME_LABELS",
    "SAMPLE_COLUMNS",
    "SAMPLE_DTYPE",
    "SCHEMA_VERSION",
    "TELEMETRY_COLUMNS",
    "Calibration",
    "CalibrationRow",
    "GeneratorHealth",
    "Outcome",
    "RunDirectory",
    "RunRecord",
    "StatisticsWindow",
    "TrialRecord",
    "create_run",
    "open_run",
    "whole_file",
]

SCHEMA_VERSION = 1

RecordT = TypeVar("RecordT", bound=Frozen)


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


class StatisticsWindow(Frozen):
    """The difference of two statistics snapshots of one model.

    The edges are the middles of the two calls, CLOCK_MONOTONIC in ns; ``edge_error_ms`` is half of the
    longer call. Each ``*_ns`` is a sum over ``*_count`` requests (``success``, ``fail``, ``queue``) or
    inference requests (``compute_*``), as in Triton's statistics extension. ``executed_batches`` maps an
    executed batch size to its number of executions.
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
        loop_lag_p99_ms, loop_lag_max_ms: how late a 10 ms timer of its event loop fired.
        cpu_s: CPU time its process used within the window; ``window_s`` that window's length.
        reconnects: connections that had to be opened again.
        unsent: requests that were due in the window and never sent (open loop).
        max_in_flight: the most requests in flight at once.
    """

    loop_lag_p99_ms: float
    loop_lag_max_ms: float
    cpu_s: float
    window_s: float
    reconnects: int = 0
    unsent: int = 0
    max_in_flight: int = 0


class TrialRecord(Frozen):
    """One point in one pass: one window.

    ``requested`` and ``effective`` are model configurations as JSON objects with the proto's names;
    ``differences`` says in words where the effective one is not what was asked for. ``failure`` says what
    broke the trial (its samples up to then are kept), ``None`` where nothing did. Windows are
    CLOCK_MONOTONIC in ns, ``None`` where the trial broke before its window.
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
    warmup_reason: str = ""
    statistics: StatisticsWindow | None = None
    statistics_note: str = ""
    generator: GeneratorHealth | None = None
    failure: str | None = None

    @property
    def window_s(self) -> float:
        """Length of the measured window in seconds; 0 where there was none."""
        if self.window_start_ns is None or self.window_end_ns is None:
            return 0.0
        return (self.window_end_ns - self.window_start_ns) / 1e9


class CalibrationRow(Frozen):
    """What the load generator can do with one protocol and one client batch size.

    Measured on the same server with probes that have the tensors of the model: one that answers at once
    (*null*) and one that sleeps.

    Attributes:
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


class Calibration(Frozen):
    """What the instrument itself can do, by protocol and client batch size.

    Attributes:
        clock_resolution_ns: the smallest step of the clock that requests are timed with.
        rows: one a workload.
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


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; on success flush it to the disk and rename it into place.

    Raises:
        EnvironmentFailedError: no room on the disk, or the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise EnvironmentFailedError(
            f"cannot be written ({error.strerror or error})",
            where=str(path),
            remedy="Free room on the disk or choose another folder; what was sealed before is kept",
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class RunDirectory:
    """A run on the disk. Reading it needs nothing but the files."""

    path: Path

    @property
    def logs(self) -> Path:
        """Where the server and the load generator write their logs."""
        return self.path / "logs"

    def write_record(self, record: RunRecord) -> None:
        """Write ``run.json``."""
        with whole_file(self.path / "run.json") as file:
            file.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def record(self) -> RunRecord:
        """Read ``run.json``.

        Raises:
            UsageError: it is missing, unreadable, or of a newer schema.
        """
        path = self.path / "run.json"
        remedy = "Give the folder of a run, such as reports/20260101T120000Z-quickstart"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
            raise UsageError(
                f"not a readable run ({reason})", where=str(path), remedy=remedy
            ) from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UsageError(
                f"the run has schema {version}, this harness reads up to {SCHEMA_VERSION}",
                where=str(path),
                remedy="Read it with a newer harness",
            )
        return _parse(RunRecord, data, path)

    def seal_trial(
        self,
        record: TrialRecord,
        samples: npt.NDArray[np.void],
        telemetry: list[tuple[int, str, int, float, int]],
    ) -> Path:
        """Store a finished trial; its folder appears whole, by one rename.

        Args:
            record: what was asked for and what was seen.
            samples: structured array of :data:`SAMPLE_DTYPE`, shape (requests,).
            telemetry: rows of :data:`TELEMETRY_COLUMNS`.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self.path / "trials" / f"{record.index:04d}"
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            columns = {name: np.ascontiguousarray(samples[name]) for name in SAMPLE_COLUMNS}
            pq.write_table(pa.table(columns), partial / "samples.parquet", compression="zstd")
            types = (pa.int64(), pa.string(), pa.int64(), pa.float64(), pa.int64())
            table = pa.table(
                {
                    name: pa.array([row[place] for row in telemetry], types[place])
                    for place, name in enumerate(TELEMETRY_COLUMNS)
                }
            )
            pq.write_table(table, partial / "telemetry.parquet", compression="zstd")
            (partial / "trial.json").write_text(record.model_dump_json(indent=1) + "\n", "utf-8")
            for file in partial.iterdir():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            partial.replace(folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise EnvironmentFailedError(
                f"the trial cannot be stored ({error.strerror or error})",
                where=str(folder),
                remedy="Free room on the disk; the trials sealed before are kept",
            ) from error
        return folder

    def trials(self) -> list[TrialRecord]:
        """Every sealed trial, in the order in which they were measured.

        Raises:
            UsageError: one of them is damaged.
        """
        records = []
        for path in sorted(self.path.glob("trials/[0-9]*/trial.json")):
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
                raise UsageError(f"not a readable trial ({error})", where=str(path)) from error
            records.append(_parse(TrialRecord, data, path))
        return records

    def samples(self, index: int) -> pa.Table:
        """The samples of one trial, columns :data:`SAMPLE_COLUMNS`."""
        return self._table(index, "samples.parquet")

    def telemetry(self, index: int) -> pa.Table:
        """The telemetry of one trial, columns :data:`TELEMETRY_COLUMNS`."""
        return self._table(index, "telemetry.parquet")

    def _table(self, index: int, name: str) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / "trials" / f"{index:04d}" / name
        try:
            return pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"not a readable table ({error})", where=str(path)) from error


def _parse(kind: type[RecordT], data: object, path: Path) -> RecordT:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        raise UsageError(f"{place}: {first['msg']}", where=str(path)) from error


def create_run(root: Path, name: str, moment: datetime | None = None) -> RunDirectory:
    """Make ``root/<utc>-<name>/``; a second start within the same second gets a suffix.

    Raises:
        EnvironmentFailedError: the folder cannot be made.
    """
    stamp = (moment or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        path = root / f"{stamp}-{name}{suffix}"
        try:
            path.mkdir(parents=True)
            (path / "trials").mkdir()
            (path / "logs").mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise EnvironmentFailedError(
                f"the run directory cannot be made ({error.strerror or error})",
                where=str(path),
                remedy="Choose another folder with --output",
            ) from error
        return RunDirectory(path)
    raise EnvironmentFailedError("a hundred runs started within one second", where=str(root))


def open_run(path: Path) -> RunDirectory:
    """Open a run that is there.

    Raises:
        UsageError: it is no run, or of a newer schema.
    """
    run = RunDirectory(path)
    run.record()
    return run
