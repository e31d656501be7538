"""``harness tune`` and ``harness study`` with real fits: found, resumed, refused, and good enough."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from tests.footprint import wait_until
from tests.trained import read_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Harness = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.timeout(900)  # the first test waits for a tuning besides its own
SMALL = ("--network", "cnn_small", "--learning-rate", "0.0001,0.01", "--epochs", 2, "--folds", 2)

# The command, which waits after each fit until it is struck: else it may have made all of them by then.
STOPS_AFTER_A_FIT = """
import os, signal, sys
from harness.models.journal import Journal
add = Journal.add
def add_and_stop(*arguments):
    add(*arguments)
    os.kill(os.getpid(), signal.SIGSTOP)
Journal.add = add_and_stop
from harness.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def tuned(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuning of two candidates over two folds."""
    folder = tmp_path_factory.mktemp("tuned")
    harness("tune", *SMALL, "--output", folder)
    return folder


def read(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "tuning.json").read_text())
    return record


def judged(folder: Path) -> list[tuple[Any, ...]]:
    """What must not depend on when and how fast the fits were made."""
    return [
        (each["settings"], each["accuracy"], each["recall_macro"], each["f1_macro"])
        for each in read(folder)["candidates"]
    ]


@pytest.mark.long
def test_the_memory_of_a_fit_is_its_own_and_grows_with_the_batch(tmp_path: Path) -> None:
    from harness.models.measured_fit import measure_fit
    from harness.models.settings import Settings

    small = measure_fit(Settings(epochs=2, batch_size=32))
    ballast = np.ones(2**27)  # a gibibyte of this process, which must not be counted
    large = measure_fit(Settings(epochs=2, batch_size=512))
    assert large.fit_bytes > small.fit_bytes + 40 * 2**20
    assert large.peak_bytes < 2 * small.peak_bytes
    before_small, before_large = (fit.peak_bytes - fit.fit_bytes for fit in (small, large))
    assert abs(before_large - before_small) < ballast.nbytes / 4
    assert small.epoch_s_low <= small.epoch_s <= small.epoch_s_high
    assert len(small.cross_entropy) == 2


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_trade_offs_show(harness: Harness, tmp_path: Path) -> None:
    done = harness("study", "--output", tmp_path, timeout_s=1000)
    assert done.stdout.splitlines()[-1] == str(tmp_path / "index.html")
    rows = {
        path.stem: json.loads(path.read_text())["rows"] for path in sorted(tmp_path.glob("*.json"))
    }
    smallest, *_, largest = rows["batch-size"]
    assert largest["batch_size"] >= 16 * smallest["batch_size"]
    # Five times as fast on an idle machine; of each its best epoch, since others may hold one up.
    assert largest["epoch_s_low"] < smallest["epoch_s_low"]
    assert largest["fit_bytes"] > smallest["fit_bytes"] + 20 * 2**20
    assert largest["accuracy"] < smallest["accuracy"]
    words = [row["curve"] for row in rows["learning-rate"]]
    assert words[0] == "crawls"
    assert "learns" in words[1:-1]
    assert words[-2] == "oscillates"  # as with each of nine seeds
    assert words[-1] in {"oscillates", "does not learn"}
    none, *penalised = rows["regularisation"]
    assert (none["l1"], none["l2"]) == (0, 0)
    assert none["accuracy"] > 0.99
    assert all(row["gap"] < none["gap"] for row in penalised)


def test_tuning_finds_the_better_rate_with_its_spread_and_its_cost(tuned: Path) -> None:
    best, worse = read(tuned)["candidates"]
    assert best["settings"]["learning_rate"] == 0.01
    assert best["accuracy"]["mean"] > worse["accuracy"]["mean"] + 0.1
    for figure in ("accuracy", "recall_macro", "f1_macro"):
        folds = best[figure]["folds"]
        assert len(folds) == 2
        assert best[figure]["mean"] == pytest.approx(np.mean(folds))
        assert best[figure]["std"] == pytest.approx(np.std(folds, ddof=1))
    assert best["front"]
    assert not worse["front"]
    assert best["cost"] == worse["cost"]
    assert best["cost"]["parameters"] == 8538
    assert best["cost"]["file_bytes"] > 4 * 8538
    # Units fit: a batch of 32 takes about as long as 1 to 320 single images.
    assert 0.1 < best["cost"]["throughput"] * best["cost"]["latency_ms"] / 1000 < 32
    assert (tuned / "best.yaml").read_text() == (tuned / "best-cnn_small.yaml").read_text()
    assert "<h1>cnn_small reaches" in (tuned / "index.html").read_text()


@pytest.mark.long
def test_candidates_may_be_drawn_at_random_and_the_time_left_is_told(
    harness: Harness, tmp_path: Path
) -> None:
    drawn = ("--method", "random", "--candidates", 6, "--learning-rate", "0.001,0.1")
    done = harness("tune", *SMALL[:2], *drawn, *SMALL[4:], "--output", tmp_path)
    rates = [each["settings"]["learning_rate"] for each in read(tmp_path)["candidates"]]
    assert len(set(rates)) == 6
    assert all(0.001 <= rate <= 0.1 for rate in rates)
    assert not set(rates) & {0.001, 0.1}
    # Every tenth fit where standard error is no terminal; two of twelve are left then.
    told = r"^10/12 fits, (\d+:\d\d) left; cnn_small, accuracy [01]\.\d{3}$"
    (left,) = re.findall(told, done.stderr, re.MULTILINE)
    assert left != "0:00"


def test_the_best_settings_train(here: Harness, tuned: Path, tmp_path: Path) -> None:
    here("train", "--config", tuned / "best.yaml", "--output", tmp_path / "best")
    settings = read_record(tmp_path / "best").settings
    assert settings.model_dump(mode="json") == read(tuned)["candidates"][0]["settings"]


def test_finished_fits_are_not_repeated_and_new_ones_are_added(
    here: Harness, tuned: Path, tmp_path: Path
) -> None:
    fits = (tuned / "fits.jsonl").read_bytes()
    (tmp_path / "fits.jsonl").write_bytes(fits)
    done = here("tune", *SMALL, "--output", tmp_path)
    assert "4 fits" in done.stdout
    assert "4 of them done before" in done.stdout
    assert (tmp_path / "fits.jsonl").read_bytes() == fits
    assert judged(tmp_path) == judged(tuned)
    # Another seed is another fit, even of the same candidate.
    here("tune", *SMALL, "--learning-rate", 0.01, "--seed", 8, "--output", tmp_path)
    assert len((tmp_path / "fits.jsonl").read_bytes().splitlines()) == 6


def test_interrupted_and_continued_it_finds_the_same(tuned: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "tune", *map(str, SMALL), "--output", str(tmp_path)]
    journal = tmp_path / "fits.jsonl"
    tuning = subprocess.Popen(
        [sys.executable, "-c", STOPS_AFTER_A_FIT, *command[3:]],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    states = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    wait_until(lambda: psutil.Process(tuning.pid).status() in states, 240)
    os.killpg(tuning.pid, signal.SIGINT)
    os.killpg(tuning.pid, signal.SIGCONT)
    _, stderr = tuning.communicate(timeout=120)
    assert tuning.returncode == 130
    assert b"Traceback" not in stderr
    assert b"the same command goes on after them" in stderr
    finished = journal.read_bytes()
    fits = finished.count(b"\n")
    assert 1 <= fits < 4
    assert [child.name for child in tmp_path.iterdir()] == ["fits.jsonl"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert f"{fits} of them done before" in done.stdout
    assert journal.read_bytes().startswith(finished)
    assert judged(tmp_path) == judged(tuned)


def test_a_class_with_one_example_and_five_folds_is_one_sentence(
    here: Harness, tmp_path: Path
) -> None:
    labels = np.arange(60) % 2
    labels[7] = 2
    np.savez(tmp_path / "bad.npz", x=np.zeros((60, 28, 28)), y=labels)
    done = here("tune", "--data", "bad.npz", "--folds", 5, cwd=tmp_path, code=2)
    assert done.stderr.strip().splitlines()[-1] == (
        "error: bad.npz: class '2' has 1 usable example, at least 10 are needed to train, validate"
        " and test. Add examples of it or leave the class out."
    )
    assert [child.name for child in tmp_path.iterdir()] == ["bad.npz"]


def test_more_folds_than_a_class_has_examples_is_refused(here: Harness, tmp_path: Path) -> None:
    labels = np.arange(60) // 49
    np.savez(tmp_path / "bad.npz", x=np.zeros((60, 28, 28)), y=labels)
    done = here("tune", "--data", "bad.npz", "--folds", 10, cwd=tmp_path, code=2)
    assert "class '1' has 9 usable examples, fewer than the 10 folds" in done.stderr


def test_early_stopping_is_refused_where_nothing_could_stop_it(
    here: Harness, tuned: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tune.yaml"
    file.write_text("network: cnn_small\nearly_stopping: true\n")
    done = here("tune", "--config", file, cwd=tmp_path, code=2)
    assert done.stderr.strip() == (
        f"error: {file}, line 2: early_stopping would watch the examples that judge a candidate,"
        " so tuning does without it. Take it out and try several numbers of epochs, or give it to"
        " harness train."
    )
    assert [child.name for child in tmp_path.iterdir()] == ["tune.yaml"]
    # What tuning wrote itself, early_stopping: false in it, is taken back: one fit is refused later.
    best = ("--config", tuned / "best.yaml")
    done = here("tune", *best, "--folds", 1, cwd=tmp_path, code=2)
    assert "--folds: expected 2 to 100 folds" in done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--network", "cnn,resnet"), "--network resnet: no such network"),
        (("--batch-size", "32,many"), "--batch-size: expected a whole number above 0"),
        (("--folds", "1"), "--folds: expected 2 to 100 folds, got 1"),
        (("--method", "random", "--candidates", "0"), "--candidates: expected 1 to 1,000"),
        (("--config", "none.yaml"), "none.yaml: not a readable settings file"),
    ],
)
def test_bad_options_are_one_sentence_and_nothing_is_written(
    here: Harness, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    done = here("tune", *options, cwd=tmp_path, code=2)
    assert sentence in done.stderr
    assert list(tmp_path.iterdir()) == []
