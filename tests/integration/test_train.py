"""``harness train`` on real data, with the real TensorFlow and ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest

from harness.models.dataset import clean, split
from harness.models.evaluation import evaluate
from harness.models.framework import load_keras, quiet
from harness.models.onnx_file import run_onnx
from harness.models.sources import read_source
from harness.models.training import train_network
from harness.reference import read_reference
from tests.footprint import wait_until
from tests.trained import read_record

if TYPE_CHECKING:
    from collections.abc import Callable

    Harness = Callable[..., subprocess.CompletedProcess[str]]


def test_the_folder_holds_what_the_record_says(trained: Path) -> None:
    record = read_record(trained)
    assert record.parameters == 93_322
    assert record.data["train"] + record.data["validation"] + record.data["test"] == 1797
    assert record.data["test"] == 360
    assert len(record.history) == 2
    digests = {
        str(path.relative_to(trained)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in trained.rglob("*")
        if path.is_file() and path.name not in ("training.json", "index.html")
    }
    assert record.files == digests
    assert "93,322 parameters" in (trained / "index.html").read_text()
    assert {"model.keras", "model.onnx", "reference.npz", "saved_model/saved_model.pb"} <= set(
        digests
    )


def test_onnx_has_readable_names_a_free_batch_dimension_and_opset_17(trained: Path) -> None:
    proto = onnx.load(trained / "model.onnx")
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == 17
    session = onnxruntime.InferenceSession(trained / "model.onnx")
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("image", "tensor(float)", ["batch", 28, 28, 1])
    ]
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("probabilities", "tensor(float)", ["batch", 10])
    ]


def test_keras_onnx_and_the_saved_model_answer_as_the_reference(trained: Path) -> None:
    keras = load_keras()
    import tensorflow as tf

    reference = read_reference(trained / "reference.npz")
    x, expected = reference.inputs["image"], reference.outputs["probabilities"]
    assert x.shape == (360, 28, 28, 1)
    assert x.dtype == expected.dtype == np.float32
    model = keras.saving.load_model(trained / "model.keras")
    with quiet():
        serve = tf.saved_model.load(str(trained / "saved_model")).signatures["serving_default"]
    answers = {
        "keras": model.predict(x, verbose=0),
        "onnx": run_onnx(trained / "model.onnx", x),
        "saved_model": serve(image=tf.constant(x))["probabilities"].numpy(),
    }
    for name, answer in answers.items():
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5, err_msg=name)


def test_the_metrics_are_those_of_the_reference_answers(trained: Path) -> None:
    reference = read_reference(trained / "reference.npz")
    assert reference.labels is not None
    record = read_record(trained)
    result = evaluate(reference.outputs["probabilities"], reference.labels, record.classes)
    assert record.metrics["test"]["accuracy"] == pytest.approx(result.accuracy)
    assert record.metrics["test"]["recall_macro"] == pytest.approx(result.recall_macro)
    assert record.metrics["test"]["f1_macro"] == pytest.approx(result.f1_macro)
    assert record.confusion == result.confusion
    assert result.accuracy > 0.6  # two epochs; chance is 0.1


def test_the_same_seed_gives_the_same_metrics_and_another_does_not(
    harness: Harness, trained: Path, tmp_path: Path
) -> None:
    again = harness("train", "--epochs", 2, "--output", tmp_path / "again")
    first, second = map(read_record, (trained, tmp_path / "again"))
    assert second.metrics == first.metrics
    losses = [[row["loss"] for row in record.history] for record in (first, second)]
    assert losses[1] == losses[0]
    parts = split(clean(read_source("digits")), first.settings.seed)
    other = first.settings.model_copy(update={"seed": 8, "epochs": 1})
    assert train_network(other, parts.train).history[0]["loss"] != losses[0][0]
    assert "93,322 parameters" in again.stdout
    for name, key in (
        ("accuracy", "accuracy"),
        ("macro recall", "recall_macro"),
        ("macro F1", "f1_macro"),
    ):
        assert f"  {name:12}  {first.metrics['test'][key]:.4f}\n" in again.stdout
    assert again.stdout.splitlines()[-1] == str(tmp_path / "again")
    assert again.stderr.strip() == ""


def test_missing_tensorflow_is_one_sentence(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from harness.cli import main; main(['train'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 3
    assert done.stderr.strip() == (
        "error: TensorFlow is not installed."
        " Install what makes models with: pip install 'triton-harness[train]'."
    )
    assert list(tmp_path.iterdir()) == []


def test_mnist_without_a_network_is_one_sentence(tmp_path: Path) -> None:
    nowhere = {"KERAS_HOME": str(tmp_path / "keras"), "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "harness", "train", "--data", "mnist", "--output", "cnn"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=os.environ | nowhere,
    )
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.strip() == (
        "error: mnist has to be downloaded once, and the download failed. Connect to the network,"
        " or train on the digits that need none: --data digits."
    )
    assert not (tmp_path / "cnn").exists()


@pytest.mark.parametrize(("data", "name"), [("mnist", "7"), ("fashion-mnist", "Sneaker")])
def test_mnist_is_all_of_its_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: str, name: str
) -> None:
    keras = load_keras()
    rng = np.random.default_rng(0)

    def download() -> Any:
        sys.stdout.write("Downloading data from …\n")
        parts = ((60, np.arange(60) % 10), (10, np.arange(10)))
        return tuple(
            (rng.integers(0, 256, (count, 28, 28), np.uint8), labels.astype(np.uint8))
            for count, labels in parts
        )

    monkeypatch.setattr(getattr(keras.datasets, data.replace("-", "_")), "load_data", download)
    examples = clean(read_source(data))
    assert examples.x.shape == (70, 28, 28, 1)
    assert examples.dropped == {}
    assert np.bincount(examples.y).tolist() == [7] * 10
    assert examples.classes[7] == name
    assert capsys.readouterr().out == ""


def test_a_full_disk_leaves_the_older_model_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "cnn").mkdir()
    (tmp_path / "cnn" / "training.json").write_text("the older one")
    # No file may grow beyond 200 kB: the network of 93,322 parameters does not fit.
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from harness.cli import main; main(['train', '--epochs', '1', '--output', 'cnn'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 3
    assert "error: cnn: cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "cnn" / "training.json").read_text() == "the older one"
    assert [child.name for child in tmp_path.iterdir()] == ["cnn"]


def test_a_saved_model_without_room_is_an_os_error(trained: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from harness.models.framework import load_keras\n"
        "from harness.models.onnx_file import write_saved_model\n"
        "model = load_keras().saving.load_model(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try: write_saved_model(model, Path(sys.argv[2]))\n"
        "except OSError as error: print('refused:', error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained / "model.keras"), str(tmp_path / "saved")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("refused: ")


def test_ctrl_c_leaves_the_older_model_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "cnn").mkdir()
    (tmp_path / "cnn" / "training.json").write_text("the older one")
    command = [sys.executable, "-m", "harness", "train", "--epochs", "2000", "--output", "cnn"]
    training = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True
    )
    maps = Path(f"/proc/{training.pid}/maps")
    wait_until(lambda: "libtensorflow" in maps.read_text(), 120)  # from then on it is to train
    time.sleep(8)
    os.killpg(training.pid, signal.SIGINT)
    _, stderr = training.communicate(timeout=120)
    assert training.returncode == 130
    assert b"Traceback" not in stderr
    assert (tmp_path / "cnn" / "training.json").read_text() == "the older one"
    assert [child.name for child in tmp_path.iterdir()] == ["cnn"]


BAD_DATA: dict[str, tuple[dict[str, Any], str]] = {
    "labels that do not match": (
        {"x": np.zeros((5, 28, 28)), "y": np.zeros(4)},
        "5 examples in x, but y has the shape (4,)",
    ),
    "images of the wrong size": (
        {"x": np.zeros((20, 32, 32)), "y": np.arange(20) % 2},
        "no usable example: 20 of another shape than 28×28×1 (32×32)",
    ),
    "no numbers anywhere": (
        {"x": np.full((20, 28, 28), np.nan), "y": np.arange(20) % 2},
        "no usable example: 20 with values that are no numbers",
    ),
    "a class with one example": (
        {"x": np.zeros((20, 28, 28)), "y": np.arange(20) // 19},
        "class '1' has 1 usable example",
    ),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_one_sentence_and_nothing_is_written(
    here: Harness, tmp_path: Path, case: str
) -> None:
    arrays, sentence = BAD_DATA[case]
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    done = here("train", "--data", path, cwd=tmp_path, code=2)
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(path) in done.stderr
    assert [child.name for child in tmp_path.iterdir()] == ["bad.npz"]


def test_a_user_s_data_with_three_classes_is_learnt(here: Harness, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    y = np.arange(150) % 3
    x = rng.random((150, 28, 28)) * 0.2
    for row, label in enumerate(y):
        x[row, 9 * label : 9 * label + 9] += 0.8
    x[7] = np.nan
    np.savez(tmp_path / "bars.npz", x=x, y=y, classes=np.array(["top", "middle", "bottom"]))
    (tmp_path / "train.yaml").write_text("data: bars.npz\nnetwork: cnn_small\nepochs: 60\n")
    done = here(
        "train", "--config", "train.yaml", "--early-stopping", "--learning-rate", 0.01, cwd=tmp_path
    )
    assert "left out 1 of 150 examples: with values that are no numbers" in done.stderr
    folder = tmp_path / "build" / "models" / "cnn_small"
    record = json.loads((folder / "training.json").read_text())
    assert record["classes"] == ["top", "middle", "bottom"]
    assert record["data"]["dropped"] == {"not a number": 1}
    assert record["metrics"]["test"]["accuracy"] == 1.0
    assert len(record["history"]) < 60
    assert read_reference(folder / "reference.npz").outputs["probabilities"].shape[1] == 3


def test_a_recurrent_network_trains_and_exports(here: Harness, tmp_path: Path) -> None:
    here("train", "--network", "gru", "--epochs", 1, "--output", tmp_path / "gru")
    record = read_record(tmp_path / "gru")
    reference = read_reference(tmp_path / "gru" / "reference.npz")
    answers = run_onnx(tmp_path / "gru" / "model.onnx", reference.inputs["image"])
    np.testing.assert_allclose(answers, reference.outputs["probabilities"], rtol=0, atol=1e-5)
    assert record.parity["model.onnx"] < 1e-5
    assert record.parameters == 18_698
