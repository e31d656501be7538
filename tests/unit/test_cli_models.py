"""What the commands around models refuse before they connect, load TensorFlow or train."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from harness.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    """The command takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with ``code``; returns what it complained of, in one line."""

    def call(*arguments: object, code: int = 2) -> str:
        with pytest.raises(SystemExit) as end:
            main(list(map(str, arguments)))
        captured = capsys.readouterr()
        assert end.value.code == code, captured.err
        assert captured.out == ""
        return " ".join(captured.err.split())

    return call


def test_pictures_are_looked_at_before_the_server(said: Callable[..., str], tmp_path: Path) -> None:
    nobody = ("--host", "127.0.0.1:9")
    there, missing = tmp_path / "a.png", tmp_path / "nosuch.png"
    there.touch()
    told = said("predict", there, missing, *nobody)
    assert "nosuch.png: cannot be read (no such file). Give the path of a PNG, JPEG" in told
    assert "(Is a directory)" in said("predict", tmp_path, *nobody)


def test_a_study_of_one_epoch_is_refused(said: Callable[..., str], tmp_path: Path) -> None:
    output = tmp_path / "studies"
    told = said("study", "batch-size", "--epochs", 1, "--output", output)
    assert "error: --epochs: the first epoch builds the graph and is not timed" in told
    assert not output.exists()


def test_a_study_that_cannot_be_kept_is_not_begun(said: Callable[..., str], tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    told = said("study", "learning-rate", "--output", taken / "studies", code=3)
    assert "cannot be written to (Not a directory). Choose another folder with --output." in told


def test_logs_that_cannot_be_written_end_serve(said: Callable[..., str], tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    (tmp_path / "cnn").mkdir()
    for logs, reason in ((taken, "File exists"), (taken / "logs", "Not a directory")):
        told = said("serve", "cnn", "--repository", tmp_path, "--logs", logs, code=3)
        assert told.startswith(f"error: {logs}: cannot be written to ({reason}). Choose")
        assert told.endswith("another folder with --logs.")


def test_a_file_of_figures_that_cannot_be_written_is_said_before_measuring(
    said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = said("calibrate", "--json", tmp_path)
    assert f"--json {tmp_path}: is a folder. Give a file in it." in told
    assert "there is no such folder" in said("calibrate", "--json", tmp_path / "no" / "a.json")
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)  # root may write anywhere
    told = said("calibrate", "--json", tmp_path / "a.json", code=3)
    assert "a.json: cannot be written (Permission denied). Free room on the disk or choose" in told


def test_settings_that_are_not_there_say_what_to_give(said: Callable[..., str]) -> None:
    told = said("train", "--config", "nosuch.yaml")
    assert "nosuch.yaml: not a readable settings file (no such file). Give a YAML file" in told
