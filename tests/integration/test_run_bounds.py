"""What bounds a run: the passes that its target asks for, and the room on its disk."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from harness.archive import open_run
from tests.served import points_of, write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.commands import RunCommand

    Harness = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.long

ROOM = "400k"
MORE_ROOM = "64m"
PASSES = 6


@pytest.mark.parametrize(("target", "reached"), [("0.01%", False), ("95%", True)])
def test_passes_go_on_until_the_target_is_met_or_the_most_are_done(
    harness: Harness, tmp_path: Path, target: str, reached: bool
) -> None:
    write_model(tmp_path / "models", "steady", sleep_us=20_000)
    scenario = tmp_path / "target.yaml"
    scenario.write_text(
        "model: steady\n"
        "sweep: {concurrency: 2}\n"
        "measure: {window: 500ms, warmup_max: 300ms, sentinels: false, passes: 2,"
        f" max_passes: {PASSES}, target: {{throughput: {target}}}}}\n"
    )
    options = ("--models", tmp_path / "models", "--output", tmp_path / "reports")
    # A busy machine may put the point in doubt, for another reason.
    harness("run", scenario, *options, code=(0, 4))
    (run,) = (tmp_path / "reports").iterdir()
    (point,) = points_of(run)
    trials = [trial for trial in open_run(run).trials() if not trial.failure]
    assert len(trials) == int(point["passes"])
    if reached:
        # It has to be met after each of the last two passes, and one pass has no interval.
        assert 3 <= len(trials) < PASSES
        assert "target" not in point["reasons"]
    else:
        assert len(trials) == PASSES
        assert f"after {PASSES} passes, ±0.01 % was aimed for" in point["reasons"]
        assert "target not reached: throughput ±" in (run / "index.html").read_text().lower()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file system of its own, with little room."""
    folder = tmp_path / "reports"
    folder.mkdir()
    _mount(folder, f"size={ROOM}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def _mount(folder: Path, options: str) -> None:
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


def test_a_full_disk_ends_the_run_and_what_was_measured_is_kept(
    harness: Harness, running: Callable[..., RunCommand], small_disk: Path
) -> None:
    command = running("embedded", "window: 500ms, warmup_max: 300ms, passes: 60, sentinels: false")
    command.reach("warm-up")
    _, said = command.end()
    assert command.process.returncode == 3, said
    first, *others = " ".join(said.split()).split("error: ")[1:]
    assert "the trial cannot be stored" in first
    assert len(others) <= 1, "the report on the trials before"
    for error in (first, *others):
        assert "No space left on device" in error
        assert "Free room on the disk" in error
    assert "Traceback" not in said
    command.assert_gone()
    assert command.status() == "failed"
    kept = len(command.trials())
    assert 0 < kept < 60
    _mount(small_disk, f"remount,size={MORE_ROOM}")
    (run,) = small_disk.iterdir()
    harness("report", run, code=(0, 4))
    assert len(command.trials()) == kept
    (point,) = points_of(run)
    assert int(point["passes"]) == kept
    assert (run / "index.html").is_file()
