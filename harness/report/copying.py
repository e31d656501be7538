"""A run's files in another folder: to be sent, shown or kept, without the names in them if so wished."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from harness.archive import RunDirectory
from harness.errors import EnvironmentFailedError, UsageError
from harness.report.anonymous import anonymous_record, anonymous_trial, names_in, numbered

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["copy_run"]

TABLES = ("samples.parquet", "telemetry.parquet", "metrics.parquet")
ADDED_LATER = frozenset({"metrics.parquet"})


def copy_run(run: RunDirectory, folder: Path, *, anonymous: bool = False) -> RunDirectory:
    """Copy what a report is made from; a run that is there already is replaced, and its logs are removed.

    Args:
        run: what is copied; not its logs, which tell of more than a report does.
        folder: where to; made if it is not there.
        anonymous: leave out host, user and paths.

    Raises:
        UsageError: ``run`` is unreadable (of its tables, those that are rewritten), or the folder is the run itself or holds something else.
        EnvironmentFailedError: the copy cannot be written.
    """
    record, trials = run.record(), run.trials()
    _check(run, folder)
    partial, devices = folder / ".trials.partial", dict[str, str]()
    if anonymous:
        names = names_in([record, *trials])
        record = anonymous_record(record, names, devices)
        trials = [anonymous_trial(trial, names, devices) for trial in trials]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for trial in trials:
            name = f"{trial.index:04d}"
            (partial / name).mkdir()
            for table in TABLES:
                source = run.path / "trials" / name / table
                if anonymous and table == "metrics.parquet":
                    _copy_metrics(run, trial.index, partial / name / table, devices)
                elif source.exists() or table not in ADDED_LATER:
                    shutil.copyfile(source, partial / name / table)
            text = trial.model_dump_json(indent=1) + "\n"
            (partial / name / "trial.json").write_text(text, encoding="utf-8")
        copied = RunDirectory(folder)
        if copied.logs.is_symlink():
            copied.logs.unlink()
        elif copied.logs.exists():
            shutil.rmtree(copied.logs)  # not silently: they name host and paths
        shutil.rmtree(folder / "trials", ignore_errors=True)
        partial.replace(folder / "trials")
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise EnvironmentFailedError(
            f"the run cannot be copied ({error.strerror or error})",
            where=str(error.filename or folder),
            remedy="Free room on the disk or choose another folder with --output",
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    copied.write_record(record, copied=True)
    return copied


def _copy_metrics(run: RunDirectory, index: int, target: Path, devices: dict[str, str]) -> None:
    """Copy a trial's metrics, if it has any; a GPU's serial becomes its number in the run."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = run.metrics(index)
    if table is None:
        return
    place = table.column_names.index("labels")
    plain = [numbered(labels, devices) for labels in table.column("labels").to_pylist()]
    table = table.set_column(place, "labels", pa.array(plain, pa.string()))
    pq.write_table(table, target, compression="zstd")


def _check(run: RunDirectory, folder: Path) -> None:
    if folder.resolve() == run.path.resolve():
        raise UsageError(
            "a run cannot be copied onto itself", where=str(folder), remedy="Give another folder"
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            "not a folder", where=str(folder), remedy="Give a folder, or a file that ends in .html"
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "run.json").is_file():
        raise UsageError(
            "the folder holds something that is no run",
            where=str(folder),
            remedy="Give a new folder with --output",
        )
