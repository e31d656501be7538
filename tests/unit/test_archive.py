from __future__ import annotations

import errno
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.archive import KEPT_ROOM, RunDirectory, create_run, open_run, whole_file
from harness.errors import EnvironmentFailedError, UsageError
from harness.point import ClosedLoad, Point, ServerConfiguration, Workload
from harness.records import SAMPLE_DTYPE, SCHEMA_VERSION, RunRecord, TrialRecord

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
POINT = Point(
    configuration=ServerConfiguration(model="cnn"),
    workload=Workload(),
    load=ClosedLoad(concurrency=4),
)


def record() -> RunRecord:
    return RunRecord(
        harness_version="0.1.0",
        run_id="abc",
        name="small",
        created_utc=NOON,
        scenario={"name": "small"},
        seed=7,
        planned_trials=1,
    )


def trial(index: int = 1) -> TrialRecord:
    return TrialRecord(
        index=index,
        pass_index=0,
        point=POINT,
        started_utc=NOON,
        requested={"name": "cnn"},
        effective=None,
        window_start_ns=10,
        window_end_ns=2_000_000_010,
    )


def samples(count: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    array = np.zeros(count, dtype=SAMPLE_DTYPE)
    array["done_ns"] = np.arange(count)
    array["compared"] = np.arange(count) % 2 == 0
    return array


def test_what_is_sealed_is_read_back(tmp_path: Path) -> None:
    run = create_run(tmp_path, "small", NOON)
    run.write_record(record())
    telemetry = [(1, "server", 42, 0.5, 1000), (2, "host", 0, 1.5, 2000)]
    metrics = [(3, "triton", "nv_inference_count", '{"model": "cnn"}', 7.0)]
    run.seal_trial(trial(), samples(5), telemetry, metrics)
    assert run.path.name == "20260102T120000Z-small"
    assert open_run(run.path).record() == record()
    assert run.trials() == [trial()]
    assert run.trials()[0].window_s == 2.0
    table = run.samples(1)
    assert tuple(table.column_names) == SAMPLE_DTYPE.names
    assert table["done_ns"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["compared"].to_pylist() == [True, False, True, False, True]
    assert [tuple(row.values()) for row in run.telemetry(1).to_pylist()] == telemetry
    assert [tuple(row.values()) for row in run.metrics(1).to_pylist()] == metrics


def test_a_trial_without_samples_or_telemetry_is_kept_too(tmp_path: Path) -> None:
    run = create_run(tmp_path, "small", NOON)
    run.seal_trial(trial(), samples(0), [])
    assert run.samples(1).num_rows == 0
    assert run.telemetry(1).num_rows == 0
    assert run.metrics(1).num_rows == 0


def test_metrics_of_an_older_run_are_not_known(tmp_path: Path) -> None:
    run = create_run(tmp_path, "small", NOON)
    folder = run.seal_trial(trial(), samples(0), [])
    (folder / "metrics.parquet").unlink()
    assert run.metrics(1) is None


def test_two_runs_of_one_second_do_not_share_a_folder(tmp_path: Path) -> None:
    first, second = create_run(tmp_path, "a", NOON), create_run(tmp_path, "a", NOON)
    assert first.path != second.path


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before")

    def write() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before")

    def write() -> None:
        with whole_file(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(EnvironmentFailedError, match="No space left on device") as caught:
        write()
    assert caught.value.exit_code == 3
    assert path.read_text() == "before"


def test_room_for_the_word_on_its_end_is_kept_while_a_run_goes_on(tmp_path: Path) -> None:
    run, going_on = create_run(tmp_path, "small", NOON), record()
    run.write_record(going_on)
    room = (run.path / KEPT_ROOM).stat()
    assert room.st_blocks * 512 >= room.st_size, "a sparse file would keep nothing"
    ended = going_on.model_copy(update={"status": "failed"})
    run.write_record(ended)
    assert not (run.path / KEPT_ROOM).exists()
    assert room.st_size > 2 * (run.path / "run.json").stat().st_size
    assert run.record() == ended


def test_room_that_cannot_be_freed_is_no_other_error(tmp_path: Path) -> None:
    run = create_run(tmp_path, "small", NOON)
    (run.path / KEPT_ROOM).mkdir()
    ended = record().model_copy(update={"status": "failed"})
    run.write_record(ended)
    assert run.record() == ended


def test_a_half_written_trial_is_not_seen(tmp_path: Path) -> None:
    run = create_run(tmp_path, "small", NOON)
    run.seal_trial(trial(), samples(1), [])
    (run.path / "trials" / ".0002.partial").mkdir()
    (run.path / "trials" / ".0002.partial" / "trial.json").write_text("{")
    assert [sealed.index for sealed in run.trials()] == [1]


def test_a_newer_schema_is_refused_with_both_numbers(tmp_path: Path) -> None:
    run = create_run(tmp_path, "small", NOON)
    data = record().model_dump(mode="json") | {"schema_version": SCHEMA_VERSION + 1, "novelty": 1}
    (run.path / "run.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=rf"schema {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}"):
        open_run(run.path)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"schema_version": 1}', "\xff"])
def test_what_is_no_run_is_refused_with_its_path(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"run\.json") as caught:
        open_run(tmp_path)
    assert caught.value.exit_code == 2


def test_a_damaged_table_is_refused_with_its_path(tmp_path: Path) -> None:
    run = create_run(tmp_path, "small", NOON)
    folder = run.seal_trial(trial(), samples(3), [])
    (folder / "samples.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match=r"samples\.parquet"):
        RunDirectory(run.path).samples(1)


@pytest.mark.parametrize("name", ["samples", "telemetry", "metrics"])
def test_a_table_without_its_columns_is_refused_with_their_names(tmp_path: Path, name: str) -> None:
    run = create_run(tmp_path, "small", NOON)
    path = run.seal_trial(trial(), samples(3), []) / f"{name}.parquet"
    table = pq.read_table(path)
    first, second, *others = table.column_names
    pq.write_table(table.select(others), path)
    with pytest.raises(UsageError) as caught:
        getattr(run, name)(1)
    assert str(caught.value).startswith(
        f"{path}: not a readable table (without {first}, {second}). "
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pass_index": None}, "pass_index: input should be a valid integer"),
        ({"pas_index": 3}, "pas_index: extra inputs are not permitted"),
        ({"point": 3}, "point: expected keys and values"),
    ],
)
def test_a_wrong_record_is_told_its_field_and_the_way_out(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    run = create_run(tmp_path, "small", NOON)
    path = run.seal_trial(trial(), samples(1), []) / "trial.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError) as caught:
        run.trials()
    assert str(caught.value).startswith(f"{path}: not a readable trial ({said})")
    assert caught.value.remedy


def test_a_file_that_is_no_record_names_no_class_of_ours(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(UsageError, match=r"not a readable run .*Give the folder") as caught:
        open_run(tmp_path)
    assert "RunRecord" not in str(caught.value)


def test_trials_stay_in_their_order_beyond_four_digits(tmp_path: Path) -> None:
    run = create_run(tmp_path, "small", NOON)
    for index in (10_000, 9_999, 2):
        run.seal_trial(trial(index), samples(0), [])
    assert [sealed.index for sealed in run.trials()] == [2, 9_999, 10_000]


def test_a_run_is_opened_by_its_record_too(tmp_path: Path) -> None:
    run = create_run(tmp_path, "small", NOON)
    run.write_record(record())
    assert open_run(run.path / "run.json") == run
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"\(Not a directory\)"):
        open_run(tmp_path / "file")


def test_a_place_that_no_file_can_have_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def write() -> None:
        with whole_file(tmp_path / "file" / "page.html") as partial:
            partial.write_text("whole")

    with pytest.raises(EnvironmentFailedError, match="Not a directory"):
        write()
