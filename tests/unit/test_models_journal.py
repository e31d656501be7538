from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from harness.errors import EnvironmentFailedError, UsageError
from harness.models.journal import open_journal

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_noted_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "fits.jsonl"
    with open_journal(path) as journal:
        journal.add("a", {"accuracy": 0.5})
        assert journal.get("a") == {"accuracy": 0.5}
        assert path.read_bytes().endswith(b"\n")
    with open_journal(path) as journal:
        assert journal.get("a") == {"accuracy": 0.5}
        assert journal.get("b") is None


@pytest.mark.parametrize("cut", range(1, 25))
def test_a_line_cut_short_by_a_kill_is_dropped_and_the_next_one_whole(
    tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "fits.jsonl"
    with open_journal(path) as journal:
        journal.add("a", {"accuracy": 0.5})
        journal.add("b", {"accuracy": 0.25})
    os.truncate(path, path.stat().st_size - cut)
    with open_journal(path) as journal:
        assert journal.entries == {"a": {"accuracy": 0.5}}
        journal.add("c", {"accuracy": 1.0})
    with open_journal(path) as journal:
        assert journal.entries == {"a": {"accuracy": 0.5}, "c": {"accuracy": 1.0}}


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    path = tmp_path / "fits.jsonl"
    with (
        open_journal(path),
        pytest.raises(UsageError, match="another process is writing here"),
        open_journal(path),
    ):
        pass


@pytest.mark.parametrize(
    "text", ["no json\n", "[1]\n", '{"accuracy": 1}\n', "7\nhalf", "no line end", '{"a": 1']
)
def test_a_foreign_file_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match="no finished fit"), open_journal(path):
        pass
    assert path.read_text() == text


def test_a_folder_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EnvironmentFailedError, match="cannot be written"),
        open_journal(tmp_path / "file" / "fits.jsonl"),
    ):
        pass
