"""The run directory: layout, schema version, atomic writes.

    reports/<utc>-<scenario>/
      run.json                   RunRecord
      trials/0001/trial.json     TrialRecord        one folder a sealed trial, renamed into place
      trials/0001/samples.parquet    SAMPLE_COLUMNS     one row a request, warm-up and drain included
      trials/0001/telemetry.parquet  TELEMETRY_COLUMNS  one row a reading of a process
      trials/0001/metrics.parquet    METRIC_COLUMNS     one row a reading of a counter or gauge
      logs/                      of the server and of the load generator
      .room                      kept on the disk, until the run ends, for the word on how it did
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
from contextlib import contextmanager, suppress
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

__all__ = ["KEPT_ROOM", "RunDirectory", "create_run", "open_run", "whole_file"]

TELEMETRY_TYPES = ("int64", "string", "int64", "float64", "int64")
METRIC_TYPES = ("int64", "string", "string", "string", "float64")

# A full disk ends a run; what it says of that end needs some of the disk.
KEPT_ROOM = ".room"
KEPT_ROOM_BYTES = 64 * 1024

WHICH_RUN = "Give the folder of a run, such as reports/20260101T120000Z-quickstart"
WITHOUT_IT = "Copy the run again from where it was measured, or remove this trial's folder"

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
        with suppress(OSError):  # it may lie where no file can
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

    def write_record(self, record: RunRecord, *, copied: bool = False) -> None:
        """Write ``run.json``, and keep room on the disk for the word on how the run ended.

        Args:
            record: what is written.
            copied: this is no run that goes on, but a copy of one, which needs no such room.
        """
        kept = self.path / KEPT_ROOM
        if copied or record.status != "running":
            with suppress(OSError):  # what is wrong with the folder, the next file says
                kept.unlink()
        elif not kept.exists():
            with whole_file(kept) as file:
                file.write_bytes(os.urandom(KEPT_ROOM_BYTES))  # a disk may compress what is alike
        with whole_file(self.path / "run.json") as file:
            file.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def record(self) -> RunRecord:
        """Read ``run.json``.

        Raises:
            UsageError: it is missing, unreadable, or of a newer schema.
        """
        path = self.path / "run.json"
        data = _read_json(path, "run", WHICH_RUN)
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UsageError(
                f"the run has schema {version}, this harness reads up to {SCHEMA_VERSION}",
                where=str(path),
                remedy="Read it with a newer harness",
            )
        return _parse(RunRecord, data, path, "run", WHICH_RUN)

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
            pq.write_table(
                pa.table(columns),
                partial / "samples.parquet",
                compression="zstd",
                use_dictionary=[name for name in columns if not name.endswith("_ns")],
                # Neighbours in time differ by little: that takes three fifths of the room.
                column_encoding={
                    name: "DELTA_BINARY_PACKED" for name in columns if name.endswith("_ns")
                },
            )
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
        found = self.path.glob("trials/[0-9]*/trial.json")
        paths = [path for path in found if path.parent.name.isdecimal()]
        for path in sorted(paths, key=lambda path: int(path.parent.name)):
            data = _read_json(path, "trial", WITHOUT_IT)
            records.append(_parse(TrialRecord, data, path, "trial", WITHOUT_IT))
        return records

    def samples(self, index: int) -> pa.Table:
        """The samples of one trial, columns :data:`SAMPLE_COLUMNS`."""
        return self._table(index, "samples.parquet", SAMPLE_COLUMNS)

    def telemetry(self, index: int) -> pa.Table:
        """The telemetry of one trial, columns :data:`TELEMETRY_COLUMNS`."""
        return self._table(index, "telemetry.parquet", TELEMETRY_COLUMNS)

    def metrics(self, index: int) -> pa.Table | None:
        """The metrics of one trial, columns :data:`METRIC_COLUMNS`; ``None`` of a run older than they are."""
        name = "metrics.parquet"
        there = (self.path / "trials" / f"{index:04d}" / name).exists()
        return self._table(index, name, METRIC_COLUMNS) if there else None

    def _table(self, index: int, name: str, columns: Sequence[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / "trials" / f"{index:04d}" / name
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable("table", _reason(error), path, WITHOUT_IT) from error
        if missing := [column for column in columns if column not in table.column_names]:
            raise _unreadable("table", f"without {', '.join(missing)}", path, WITHOUT_IT)
        return table


def _read_json(path: Path, noun: str, remedy: str) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or no JSON
        raise _unreadable(noun, _reason(error), path, remedy) from error


def _parse(kind: type[RecordT], data: object, path: Path, noun: str, remedy: str) -> RecordT:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        # Pydantic says which of our classes it wanted, which tells nobody anything.
        wants_keys = first["type"] in {"model_type", "model_attributes_type"}
        said = "expected keys and values" if wants_keys else first["msg"]
        reason = f"{place}: {said[0].lower()}{said[1:]}"
        raise _unreadable(noun, reason, path, remedy) from error


def _unreadable(noun: str, reason: str, path: Path, remedy: str) -> UsageError:
    return UsageError(f"not a readable {noun} ({reason})", where=str(path), remedy=remedy)


def _reason(error: Exception) -> str:
    """Why a file cannot be read, in one line."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    said = error.strerror if isinstance(error, OSError) else None
    return said or str(error).partition("\n")[0].rstrip(".")


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
    """Open a run that is there, by its folder or by the ``run.json`` in it.

    Raises:
        UsageError: it is no run, or of a newer schema.
    """
    run = RunDirectory(path.parent if path.name == "run.json" and path.is_file() else path)
    run.record()
    return run
