"""Keras files, SavedModels and every backend's form: exported, parsed back, proved, and served."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton

from harness.models.framework import load_keras, quiet
from harness.reference import read_reference
from harness.repository.configuration import differences
from harness.repository.exported import open_model
from harness.scenario import ServerSpec
from harness.servers.control import Control
from harness.servers.staging import staged
from harness.servers.start import serving
from tests import onnx_models

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Harness = Callable[..., subprocess.CompletedProcess[str]]

TWO_INPUTS = ("--shape", "tokens=5", "--range", "tokens=0:50")


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two inputs, one INT64 of any length, and two outputs; a recurrent layer between."""
    keras = load_keras()
    layers = keras.layers
    with quiet():
        keras.utils.set_random_seed(3)
        tokens = keras.Input((None,), dtype="int64", name="tokens")
        extra = keras.Input((4,), name="extra")
        hidden = layers.GRU(6)(layers.Embedding(50, 8)(tokens))
        joined = layers.Concatenate()([hidden, extra])
        scores = layers.Dense(3, activation="softmax", name="scores")(joined)
        value = layers.Dense(1, name="value")(joined)
        model = keras.Model([tokens, extra], [scores, value])
        path = tmp_path_factory.mktemp("keras") / "two.keras"
        model.save(path)
        model.export(str(path.parent / "saved"), verbose=False)
    return path


def test_a_keras_file_and_a_saved_model_are_served(
    here: Harness, keras_file: Path, tmp_path: Path
) -> None:
    root, logs = tmp_path / "models", tmp_path / "logs"
    logs.mkdir()
    here("export", "--keras", keras_file, "--output", root, *TWO_INPUTS)
    saved = keras_file.parent / "saved"
    here("export", "--saved-model", saved, "--output", root, *TWO_INPUTS)
    run_id = f"test-{uuid.uuid4().hex[:8]}"
    models = {name: open_model(root, name) for name in ("two", "saved")}
    assert {tensor["name"] for tensor in models["two"].configuration["output"]} == {
        "scores",
        "value",
    }
    folders = {name: model.folder for name, model in models.items()}
    with (
        staged(folders, run_id) as repository,
        serving(ServerSpec(), repository, logs=logs, run_id=run_id) as server,
        Control(server.endpoints) as control,
        triton.InferenceServerClient(server.endpoints.grpc) as client,
    ):
        for name, model in models.items():
            control.load(name, deadline_s=60)
            assert differences(model.configuration, control.effective_configuration(name)) == ()
            assert model.record["parity"]["largest_difference"] < 1e-4
            assert model.reference is not None
            reference = read_reference(model.reference)
            inputs = []
            for key, array in reference.inputs.items():
                kind = "INT64" if key == "tokens" else "FP32"
                tensor = triton.InferInput(key, [9, *array.shape[1:]], kind)
                tensor.set_data_from_numpy(array[:9])
                inputs.append(tensor)
            answer = client.infer(name, inputs)
            for key, right in reference.outputs.items():
                assert np.abs(answer.as_numpy(key) - right[:9]).max() < 1e-4
                assert right.std() > 0, f"{key} would look right if it were constant"


@pytest.mark.parametrize(
    ("options", "weights", "wanted"),
    [
        (
            ("--server", "container"),
            "model.onnx",
            {
                "backend": "onnxruntime",
                "parameters": {
                    "intra_op_thread_count": {"string_value": "1"},
                    "inter_op_thread_count": {"string_value": "1"},
                },
            },
        ),
        (
            ("--image", "25.02-py3", "--backend", "tensorflow", "--threads", 2),
            "model.savedmodel",
            {
                "backend": "tensorflow",
                "platform": "tensorflow_savedmodel",
                "parameters": {
                    "TF_NUM_INTRA_THREADS": {"string_value": "2"},
                    "TF_NUM_INTER_THREADS": {"string_value": "1"},
                },
            },
        ),
        (
            ("--backend", "openvino", "--threads", 3),
            "model.onnx",
            {
                "backend": "openvino",
                "default_model_filename": "model.onnx",
                "parameters": {
                    "INFERENCE_NUM_THREADS": {"string_value": "3"},
                    "ENABLE_BATCH_PADDING": {"string_value": "YES"},
                },
            },
        ),
        (
            ("--image", "26.01-py3", "--kind", "gpu", "--gpus", "0,1", "--instances", 2),
            "model.onnx",
            {
                "backend": "onnxruntime",
                "instance_group": [{"count": 2, "kind": "KIND_GPU", "gpus": [0, 1]}],
            },
        ),
    ],
)
def test_every_backend_s_form_is_proved_and_reads_back(
    here: Harness,
    trained: Path,
    tmp_path: Path,
    options: tuple[Any, ...],
    weights: str,
    wanted: dict[str, Any],
) -> None:
    here("export", "--source", trained, "--output", tmp_path, *options)
    model = open_model(tmp_path, "cnn")
    assert {key: model.configuration.get(key) for key in wanted} == wanted
    assert [path.name for path in (model.folder / "1").iterdir()] == [weights]
    assert model.record["parity"]["largest_difference"] < 1e-4
    assert model.record["parity"]["examples"] > 100
    if weights == "model.savedmodel":
        assert (model.folder / "1" / weights / "saved_model.pb").is_file()


def test_pictures_are_the_load_of_a_user_s_own_model(
    here: Harness, trained: Path, tmp_path: Path
) -> None:
    """The trained network as if it came from somewhere else, its data as a folder a class."""
    from PIL import Image

    reference = read_reference(trained / "reference.npz")
    assert reference.labels is not None
    folder = tmp_path / "pictures"
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    for place, label in enumerate(reference.labels[:40]):
        path = folder / str(label) / f"{place:03d}.png"
        pixels = np.round(reference.inputs["image"][place, :, :, 0] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    here("export", "--onnx", trained / "model.onnx", "--name", "own", "--data", folder, "--output", tmp_path / "models")  # fmt: skip
    model = open_model(tmp_path / "models", "own")
    assert model.reference is not None
    stored = read_reference(model.reference)
    assert stored.examples == 40
    assert stored.labels is not None
    assert stored.labels.tolist() == sorted(reference.labels[:40].tolist())
    right = (reference.outputs["probabilities"][:40].argmax(axis=1) == reference.labels[:40]).mean()
    assert model.record["accuracy"] == pytest.approx(right, abs=0.03)


def test_an_opset_is_converted_to_and_proved(here: Harness, tmp_path: Path) -> None:
    file = onnx_models.linear(tmp_path / "linear.onnx")
    here("export", "--onnx", file, "--opset", 13, "--output", tmp_path / "models")
    record = open_model(tmp_path / "models", "linear").record
    assert record["opset"] == 13
    assert record["source"] == str(file)


def test_what_loses_too_much_is_refused(here: Harness, tmp_path: Path) -> None:
    file = onnx_models.narrow(tmp_path / "narrow.onnx")
    done = here("export", "--onnx", file, "--precision", "int8", "--output", tmp_path / "models", code=2)  # fmt: skip
    assert "int8 loses" in done.stderr
    assert "(agreement over" in done.stderr
    assert "--max-accuracy-loss" in done.stderr
    assert not (tmp_path / "models").exists()


def test_what_keras_and_tensorflow_cannot_load_is_refused_in_one_sentence(
    here: Harness, tmp_path: Path
) -> None:
    import tensorflow as tf

    keras = load_keras()
    broken, code, empty, bare = (
        tmp_path / name for name in ("broken.keras", "code.keras", "empty", "bare")
    )
    broken.write_bytes(b"PK\3\4 no archive")
    empty.mkdir()
    with quiet():
        layer = keras.layers.Lambda(lambda x: x * 2, output_shape=(2,))
        keras.Sequential([keras.Input((2,)), layer]).save(code)
        tf.saved_model.save(tf.Module(), str(bare))
    for option, path, sentence in (
        ("--keras", broken, "Keras cannot load the model ("),
        ("--keras", code, "Keras cannot load the model ("),
        ("--keras", tmp_path / "none.keras", "no such Keras model"),
        ("--saved-model", empty, "no SavedModel"),
        ("--saved-model", bare, "has no signature serving_default"),
    ):
        done = here("export", option, path, "--output", tmp_path / "models", code=2)
        said = done.stderr.strip()
        assert said.startswith(f"error: {path}: "), said
        assert sentence in said
        assert len(said.splitlines()) == 1, said
        assert not (tmp_path / "models").exists()
