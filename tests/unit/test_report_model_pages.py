"""The pages of training, tuning and the studies, made from JSON files alone."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UsageError
from harness.report.study import write_study_page
from harness.report.training import write_training_page
from harness.report.tuning import write_tuning_page
from tests.pages import Page, refuse_loose_ends, refuse_outside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVIL = "<script>alert(1)</script>"
SETTINGS = {
    "network": "cnn",
    "data": "digits",
    "full_scale": None,
    "resize": False,
    "epochs": 2,
    "batch_size": 64,
    "learning_rate": 0.001,
    "l1": 0.0,
    "l2": 0.0,
    "early_stopping": False,
    "patience": 3,
    "seed": 7,
}
MADE: dict[str, Any] = {
    "schema_version": 1,
    "created_utc": "2026-11-24T00:50:00Z",
    "duration_s": 12.5,
    "packages": {"keras": "3.15.1"},
    "platform": "Python 3.11.7, Linux x86_64",
}
HISTORY = [
    {"epoch": 1, "accuracy": 0.5, "cross_entropy": 1.5, "val_accuracy": 0.6, "val_cross_entropy": 1.2},
    {"epoch": 2, "accuracy": 0.7, "cross_entropy": 0.9, "val_accuracy": 0.65, "val_cross_entropy": 1.0},
]  # fmt: skip
TRAINING = MADE | {
    "model": "cnn",
    "parameters": 93322,
    "classes": ["cat", EVIL],
    "data": {
        "name": "pets.npz",
        "rows": 100,
        "dropped": {"not a number": 3},
        "train": 68,
        "validation": 9,
        "test": 20,
    },
    "settings": SETTINGS,
    "metrics": {
        part: {"accuracy": 0.875, "recall_macro": 0.851, "f1_macro": 0.843, "loss": 0.4321}
        for part in ("train", "validation", "test")
    },
    "per_class": [
        {"name": "cat", "precision": 0.9, "recall": 0.812, "f1": 0.853, "examples": 11},
        {"name": EVIL, "precision": 0.8, "recall": 0.777, "f1": 0.788, "examples": 9},
    ],
    "confusion": [[9, 2], [1, 8]],
    "history": HISTORY,
    "parity": {"model.onnx": 1.5e-6},
}


def candidate(network: str, accuracy: float, latency_ms: float, front: bool) -> dict[str, Any]:
    spread = {"mean": accuracy, "std": 0.0123, "folds": [accuracy, accuracy]}
    return {
        "settings": SETTINGS | {"network": network},
        "accuracy": spread,
        "recall_macro": spread,
        "f1_macro": spread,
        "fit_s": 3.25,
        "cost": {
            "latency_ms": latency_ms,
            "throughput": 1000 / latency_ms,
            "parameters": 4321,
            "file_bytes": 2048,
        },
        "front": front,
        "near_best": accuracy > 0.9,
    }


TUNING = MADE | {
    "method": "grid",
    "data": {"name": "digits", "rows": 100, "dropped": {}, "classes": 10},
    "folds": 3,
    "seed": 7,
    "fits": 9,
    "reused_fits": 4,
    "cores": 2,
    "candidates": [
        candidate("cnn_wide", 0.957, 8.0, front=True),
        candidate("cnn", 0.934, 2.0, front=True),
        candidate(EVIL, 0.812, 3.0, front=False),
    ],
}
STUDIES = {
    "batch-size": [
        {
            "batch_size": size,
            "epoch_s": 8 / size,
            "epoch_s_low": 7 / size,
            "epoch_s_high": 9 / size,
            "peak_bytes": (800 + size) * 2**20,
            "fit_bytes": size * 2**20,
            "accuracy": 0.9,
            "cross_entropy": [1.0, 0.5],
        }
        for size in (8, 64)
    ],
    "learning-rate": [
        {"learning_rate": rate, "curve": word, "history": HISTORY}
        for rate, word in ((1e-5, "crawls"), (0.001, "learns"), (0.01, "oscillates"))
    ],
    "regularisation": [
        {
            "l1": l1,
            "l2": 0.0,
            "gap": 0.376,
            "gap_std": 0.025,
            "accuracy": 1.0,
            "accuracy_std": 0.0,
            "val_accuracy": 0.928,
            "val_accuracy_std": 0.004,
            "seeds": 3,
            "history": HISTORY,
        }
        for l1 in (0.0, 0.001)
    ],
}


def read(path: Path) -> Page:
    """The page, once it is well formed, whole, and needs nothing but itself."""
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.problems
    refuse_outside(page)
    refuse_loose_ends(page)
    return page


def text_of(path: Path) -> str:
    """What a reader sees, all in one line."""
    return seen(read(path))


def seen(page: Page) -> str:
    return " ".join(" ".join(page.lines).replace("|", " ").split())


def written(folder: Path, name: str, record: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(record))


def training_page(folder: Path) -> Path:
    written(folder, "training.json", TRAINING)
    return write_training_page(folder)


def tuning_page(folder: Path) -> Path:
    written(folder, "tuning.json", TUNING)
    return write_tuning_page(folder)


def study_page(folder: Path) -> Path:
    for name, rows in STUDIES.items():
        data = {"name": EVIL, "train": 50, "held_out": 20}
        record = MADE | {"study": name, "data": data, "settings": SETTINGS, "cores": 2}
        written(folder, f"{name}.json", record | {"rows": rows})
    return write_study_page(folder)


PAGES = [training_page, tuning_page, study_page]


@pytest.mark.parametrize("make", PAGES)
def test_a_page_needs_nothing_but_itself_and_runs_nothing(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    assert path == tmp_path / "index.html"
    page = read(path)
    assert not page.all("script")
    (style,) = page.all("style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    policy = next(
        element.attributes["content"]
        for element in page.all("meta")
        if element.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert EVIL in seen(page)  # escaped, it is words


@pytest.mark.parametrize("make", PAGES)
def test_the_same_files_give_the_same_page(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert make(tmp_path).read_bytes() == make(tmp_path).read_bytes()


def test_training_shows_figures_curves_confusion_and_classes(tmp_path: Path) -> None:
    page = read(training_page(tmp_path))
    text = seen(page)
    for words in (
        "cnn is right in 87.5 % of the tests",
        "93,322 parameters",
        "macro recall 85.1 %",
        "macro F1 84.3 %",
        "3 of 20 are off the diagonal",
        "cat 90.0 81.2 85.3 11",
        "left out: 3 not a number",
        "differs from Keras by at most 1.5e-06",
    ):
        assert words in text, words
    assert len(page.all("figure")) == 3
    spoken = [element.text for element in page.all("desc")]
    assert f"Most frequent mistakes: cat taken for {EVIL}, 2; {EVIL} taken for cat, 1" in spoken


def test_a_network_trained_without_validation_and_many_classes_has_a_page(tmp_path: Path) -> None:
    record = copy.deepcopy(TRAINING)
    for row in record["history"]:
        del row["val_accuracy"], row["val_cross_entropy"]
    names = [f"class {place}" for place in range(31)]
    record["classes"] = names
    record["confusion"] = [[int(row == column) for column in range(31)] for row in range(31)]
    written(tmp_path, "training.json", record)
    text = text_of(write_training_page(tmp_path))
    assert "With 31 classes there is no picture" in text
    assert "0 of 31 are off the diagonal" in text


def test_tuning_shows_the_best_its_cost_and_every_candidate(tmp_path: Path) -> None:
    text = text_of(tuning_page(tmp_path))
    for words in (
        "cnn_wide reaches 95.7 %",
        "1 more is within one standard error",
        "accuracy 95.7 ± 1.2 %",
        "cnn yes 64 0.001 0 0 2 93.4 ± 1.2",
        f"{EVIL} 64 0.001 0 0 2 81.2 ± 1.2",
        "4,321 2.00\u202fKiB",
        "9 fits in 12\u202fs on 2 cores, 4 of them taken over",
    ):
        assert " ".join(words.split()) in text, words


def test_studies_show_what_each_choice_does(tmp_path: Path) -> None:
    page = read(study_page(tmp_path))
    text = seen(page)
    for words in (
        "64 0.125 864 64 90.0",
        "1e-05: crawls",
        "0.01: oscillates",
        "No penalty 0.376 ± 0.025 100.0 ± 0.0 92.8 ± 0.4",
        "L1 0.001 0.376 ± 0.025",
    ):
        assert words in text, words
    assert len(page.all("figure")) == 3 + 2 + 2


def test_one_study_alone_has_a_page_and_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no study"):
        write_study_page(tmp_path)
    study_page(tmp_path)
    for name in ("batch-size", "regularisation"):
        (tmp_path / f"{name}.json").unlink()
    page = read(write_study_page(tmp_path))
    assert len(page.all("figure")) == 2


def test_a_loss_that_is_no_number_is_left_out_and_said(tmp_path: Path) -> None:
    study_page(tmp_path)
    record = json.loads((tmp_path / "learning-rate.json").read_text())
    record["rows"][2]["history"][1]["cross_entropy"] = float("nan")
    written(tmp_path, "learning-rate.json", record)
    text = text_of(write_study_page(tmp_path))
    assert "1 of 6 values are no numbers and not drawn" in text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"schema_version": 2}', "schema 2, this harness reads up to 1"),
        ("{", "damaged"),
        ("[1]", "not one of our files"),
        ("{}", "not one of our files"),
        (None, "no such file"),
    ],
)
@pytest.mark.parametrize(
    ("name", "write"),
    [("training.json", write_training_page), ("tuning.json", write_tuning_page)],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, name: str, write: Callable[[Path], Path], text: str | None, sentence: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=re.escape(sentence)) as refused:
        write(tmp_path)
    assert str(tmp_path / name) in str(refused.value)
    assert not (tmp_path / "index.html").exists()
