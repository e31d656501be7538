from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harness.errors import EnvironmentFailedError, UsageError
from harness.folder import check_replaceable, whole_folder

if TYPE_CHECKING:
    from pathlib import Path

RECORD = "training.json"


def write(path: Path, text: str) -> None:
    with whole_folder(path, RECORD) as folder:
        (folder / RECORD).write_text(text)


def test_a_folder_appears_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cnn"
    write(path, "one")
    with whole_folder(path, RECORD) as folder:
        (folder / RECORD).write_text("two")
        assert (path / RECORD).read_text() == "one"
    assert (path / RECORD).read_text() == "two"
    assert [child.name for child in path.parent.iterdir()] == ["cnn"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_a_failure_leaves_the_older_folder_and_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "cnn"
    write(path, "one")

    def fail_half_way() -> None:
        with whole_folder(path, RECORD) as folder:
            (folder / RECORD).write_text("half")
            raise failure

    with pytest.raises(failure):
        fail_half_way()
    assert (path / RECORD).read_text() == "one"
    assert [child.name for child in tmp_path.iterdir()] == ["cnn"]


def test_a_disk_that_cannot_be_written_to_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailedError, match="cannot be written"):
        write(tmp_path / "file" / "cnn", "one")


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="will not be replaced"):
        write(tmp_path, "one")
    with pytest.raises(UsageError, match="will not be replaced"):
        check_replaceable(tmp_path / "thesis.txt", RECORD)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "cnn").mkdir()
    write(tmp_path / "cnn", "one")
    assert (tmp_path / "cnn" / RECORD).read_text() == "one"


def test_what_a_killed_process_left_is_reaped_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".cnn.partial-{gone.pid}").mkdir()
    lost = tmp_path / f".cnn.replaced-{gone.pid}"
    lost.mkdir()
    (lost / RECORD).write_text("one")
    living = tmp_path / f".cnn.partial-{os.getppid()}"
    living.mkdir()
    with pytest.raises(ValueError, match="stop"), whole_folder(tmp_path / "cnn", RECORD):
        raise ValueError("stop")
    assert sorted(child.name for child in tmp_path.iterdir()) == [living.name, "cnn"]
    assert (tmp_path / "cnn" / RECORD).read_text() == "one"
