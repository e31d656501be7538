"""How the command ends: its exit codes and streams, as ``docs/exit-codes.md`` promises."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harness import cli
from harness.cli import verbs  # noqa: F401 - registers the commands before a test replaces them
from harness.cli.console import complain
from harness.errors import (
    EnvironmentFailedError,
    HarnessError,
    InterruptedRunError,
    MeasurementError,
    UsageError,
)

if TYPE_CHECKING:
    from pathlib import Path


def harness(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command"),
        (["run"], "Missing argument"),
        (["run", "x.yaml", "--dry-rum"], "No such option"),
        (["train", "--epochs", "many"], "--epochs"),
    ],
)
def test_a_wrong_command_line_is_2_and_one_message(arguments: list[str], said: str) -> None:
    done = harness(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_an_error_is_one_sentence_with_its_place_and_the_way_out(tmp_path: Path) -> None:
    done = harness("run", tmp_path / "missing.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/missing.yaml: ")
    assert len(done.stderr.splitlines()) == 1
    assert "scenarios/quickstart.yaml" in done.stderr


def test_help_and_version_are_results() -> None:
    for option in ("--help", "--version"):
        done = harness(option)
        assert done.returncode == 0
        assert done.stdout.strip()
        assert not done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError, 2),
        (EnvironmentFailedError, 3),
        (MeasurementError, 4),
        (InterruptedRunError, 130),
        (KeyboardInterrupt, 130),
    ],
)
def test_an_error_ends_the_command_with_its_code(
    error: type[BaseException],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error("told to")

    monkeypatch.setattr(cli.app, "registered_commands", [])
    monkeypatch.setattr(cli.app, "registered_groups", [])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    cli.app.command("fail")(fail)
    cli.app.command("other")(fail)
    with pytest.raises(SystemExit) as ended:
        cli.main(["fail"])
    assert ended.value.code == code
    said = "told to" if issubclass(error, HarnessError) else "interrupted"
    assert capsys.readouterr().err == f"error: {said}.\n"


def test_an_interrupt_within_code_of_a_string_ends_the_command_with_its_code(
    tmp_path: Path,
) -> None:
    (tmp_path / "interrupted.py").write_text(
        "from harness import cli\n"
        'cli.app.command("fail")(lambda: exec("import os; os.kill(os.getpid(), 2)"))\n'
        'cli.main(["fail"])\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 130, done
    assert done.stderr == "error: interrupted.\n"


def test_a_mistake_of_ours_shows_where_and_is_not_taken_for_an_slo_that_is_not_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("told to")

    monkeypatch.setattr(cli.app, "registered_commands", [])
    monkeypatch.setattr(cli.app, "registered_groups", [])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    cli.app.command("fail")(fail)
    cli.app.command("other")(fail)
    with pytest.raises(SystemExit) as ended:
        cli.main(["fail"])
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith("ZeroDivisionError: told to\n")


def test_what_stands_in_brackets_in_an_error_is_said_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = "the server ended: [/tmp/foo] [bold]no[/bold] such file."
    complain(sentence)
    assert capsys.readouterr().err == f"error: {sentence}\n"
