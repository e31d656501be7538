"""The run directory: layout, schema version, atomic writes.

    reports/<utc>-<scenario>/
      run.json                   RunRecord
      trials/0001/trial.json     TrialRecord        one folder a sealed trial, renamed into place
      trials/0001/samples.parquet    SAMPLE_COLUMNS     one row a request, warm-up and drain included
      trials/0001/telemetry.parquet  TELEMETRY_COLUMNS  one row a reading of a process
      trials/0001/metrics.parquet    METRIC_COLUMNS     one row a reading of a counter or gauge
      logs/                      of the server and of the load generator
      summary.csv trials.csv summary.json index.html    made by ``harness report`` from the above

The measuring side writes it, the reading side reads it, and they meet nowhere else. Every file appears
whole or not at all: it is written beside its place, flushed to the disk and renamed. A later start can
go on after the last sealed trial.
The records and columns are in :mod:`harness.records`.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import ValidationError

from harness.errors import EnvironmentFailedError, UsageError
from harness.point import Frozen
from harness.records import (
    METRIC_COLUMNS,
    SAMPLE_COLUMNS,
    SCHEMA_VERSION,
    TELEMETRY_COLUMNS,
    RunRecord,
    TrialRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["RunDirectory", "create_run", "open_run", "whole_file"]

TELEMETRY_TYPES = ("int64", "string", "int64", "float64", "int64")
METRIC_TYPES = ("int64", "string", "string", "string", "float64")

RecordT = TypeVar("RecordT", bound=Frozen)


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
        metrics: Sequence[tuple[int, str, str, str, float]] = (),
    ) -> Path:
        """Store a finished trial; its folder appears whole, by one rename.

        Args:
            record: what was asked for and what was seen.
            samples: structured array of :data:`SAMPLE_DTYPE`, shape (requests,).
            telemetry: rows of :data:`TELEMETRY_COLUMNS`.
            metrics: rows of :data:`METRIC_COLUMNS`.
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
            for name, rows, kinds in (
                ("telemetry", telemetry, zip(TELEMETRY_COLUMNS, TELEMETRY_TYPES, strict=True)),
                ("metrics", metrics, zip(METRIC_COLUMNS, METRIC_TYPES, strict=True)),
            ):
                table = pa.table(
                    {
                        column: pa.array([row[place] for row in rows], getattr(pa, kind)())
                        for place, (column, kind) in enumerate(kinds)
                    }
                )
                pq.write_table(table, partial / f"{name}.parquet", compression="zstd")
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

    def metrics(self, index: int) -> pa.Table | None:
        """The metrics of one trial, columns :data:`METRIC_COLUMNS`; ``None`` of a run older than they are."""
        name = "metrics.parquet"
        there = (self.path / "trials" / f"{index:04d}" / name).exists()
        return self._table(index, name) if there else None

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
