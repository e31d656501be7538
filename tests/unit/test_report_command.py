"""``harness report``, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.runs import write_run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.archive import RunDirectory

SMALL = """
model: cnn
sweep: {concurrency: [4]}
measure: {window: 500ms, passes: 3}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_run(tmp_path_factory.mktemp("run"), SMALL, name="small")


def report(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "report", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
        timeout=60,
    )


def test_the_last_line_is_the_path_of_the_page(run: RunDirectory) -> None:
    done = report(run.path)
    assert done.returncode == 0, done.stderr
    *headlines, page = done.stdout.splitlines()
    assert page == str(run.path / "index.html")
    assert (run.path / "index.html").is_file()
    assert len(headlines) == 1
    assert headlines[0].startswith("cnn, HTTP, client batch 1: 1 instance, no dynamic batching")


def test_an_example_to_show_around(run: RunDirectory, tmp_path: Path) -> None:
    done = report(run.path, "--anonymise", "--output", tmp_path / "example")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "example" / "index.html")
    assert "simulated" in (run.path / "run.json").read_text("utf-8")
    assert '"hostname"' not in (tmp_path / "example" / "run.json").read_text("utf-8")


def test_what_is_no_run_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = report(tmp_path / "nothing")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "not a readable run (no such file)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_of_a_newer_harness_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    text = (run.path / "run.json").read_text("utf-8")
    (tmp_path / "run.json").write_text(text.replace('"schema_version": 1', '"schema_version": 99'))
    done = report(tmp_path)
    assert done.returncode == 2
    assert "schema 99" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
