"""Keras files and SavedModels of unusual forms: named by dicts, without a batch dimension, or not usable."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton

from harness.models.framework import load_keras, quiet
from harness.reference import read_reference
from harness.repository.exported import open_model
from harness.scenario import ServerSpec
from harness.servers.control import Control
from harness.servers.staging import staged
from harness.servers.start import serving

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.servers.server import Endpoints

    Harness = Callable[..., subprocess.CompletedProcess[str]]
    Arrays = dict[str, np.ndarray]

pytestmark = pytest.mark.timeout(
    600
)  # the first test exports all models before its own time begins
KINDS = {
    "named": "--keras",
    "fixed": "--keras",
    "matrix": "--saved-model",
    "free": "--saved-model",
}
OPTIONS: dict[str, tuple[object, ...]] = {
    "free": ("--max-batch-size", 0, "--shape", "x=2,3,5"),
}


def write_named(path: Path) -> Any:
    """Inputs and outputs are dicts whose keys are not in order; all shapes are the same."""
    keras = load_keras()
    taken = {key: keras.Input((3,), name=key) for key in ("right", "left")}
    # Weights that differ: which tensor is which shows in the answers.
    given = {
        "wide": keras.layers.Dense(3, name="first")(taken["right"]),
        "narrow": keras.layers.Dense(3, name="second")(taken["left"]),
    }
    model = keras.Model(taken, given)
    model.save(path)
    return model


def write_fixed(path: Path) -> Any:
    """A Keras model of two rows, no more and no fewer."""
    keras = load_keras()
    model = keras.Sequential([keras.Input(batch_shape=(2, 8)), keras.layers.Dense(3)])
    model.save(path)
    return model


def write_matrix(path: Path, dims: list[int | None]) -> None:
    """A SavedModel: the largest of each row, and all values doubled."""
    load_keras()
    import tensorflow as tf

    class Rows(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec(dims, tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def serve(self, x: Any) -> dict[str, Any]:
            return {"twice": 2 * x, "largest": tf.reduce_max(x, axis=-1)}

    rows = Rows()
    tf.saved_model.save(rows, str(path), signatures=rows.serve)


def of_rows(arrays: Arrays) -> Arrays:
    return {"twice": 2 * arrays["x"], "largest": arrays["x"].max(axis=-1)}


def of_keras(model: Any, output: str | None = None) -> Callable[[Arrays], Arrays]:
    """Keras' own answers by name; those of a Sequential have none, so it is given."""

    def answers(arrays: Arrays) -> Arrays:
        given = model(arrays if output is None else next(iter(arrays.values())))
        given = given if output is None else {output: given}
        return {name: np.asarray(value) for name, value in given.items()}

    return answers


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def right(files: Path) -> dict[str, Callable[[Arrays], Arrays]]:
    """Writes the models; what computes the right answers of each, without our code."""
    with quiet():
        load_keras().utils.set_random_seed(4)
        named, fixed = write_named(files / "named.keras"), write_fixed(files / "fixed.keras")
        write_matrix(files / "matrix", [4, 5])
        write_matrix(files / "free", [None, None, 5])
    return {
        "named": of_keras(named),
        "fixed": of_keras(fixed, "output"),
        "matrix": of_rows,
        "free": of_rows,
    }


def place(files: Path, name: str) -> Path:
    return files / (f"{name}.keras" if KINDS[name] == "--keras" else name)


@pytest.fixture(scope="module")
def root(
    here: Harness, files: Path, right: object, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    assert right
    root = tmp_path_factory.mktemp("models")
    for name, option in KINDS.items():
        here("export", option, place(files, name), "--output", root, *OPTIONS.get(name, ()))
    return root


@pytest.fixture(scope="module")
def endpoints(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    run_id = f"test-{uuid.uuid4().hex[:8]}"
    logs = tmp_path_factory.mktemp("logs")
    with (
        staged({path.name: path for path in root.iterdir()}, run_id) as repository,
        serving(ServerSpec(), repository, logs=logs, run_id=run_id) as server,
    ):
        yield server.endpoints


@pytest.mark.parametrize("name", KINDS)
def test_every_output_is_served_under_its_own_name(
    root: Path, endpoints: Endpoints, right: dict[str, Callable[[Arrays], Arrays]], name: str
) -> None:
    model = open_model(root, name)
    assert model.reference is not None
    reference = read_reference(model.reference)
    batched = name == "named"
    assert (model.configuration["max_batch_size"] > 0) == batched
    with (
        Control(endpoints) as control,
        triton.InferenceServerClient(endpoints.grpc) as client,
    ):
        control.load(name, deadline_s=60)
        for rows in (slice(0, 1), slice(3, 7)) if batched else (0, 5):
            arrays = {key: array[rows] for key, array in reference.inputs.items()}
            inputs = []
            for key, array in arrays.items():
                tensor = triton.InferInput(key, list(array.shape), "FP32")
                tensor.set_data_from_numpy(array)
                inputs.append(tensor)
            served = client.infer(name, inputs)
            wanted = right[name](arrays)
            assert set(wanted) == {tensor["name"] for tensor in model.configuration["output"]}
            for key, values in wanted.items():
                np.testing.assert_allclose(served.as_numpy(key), values, atol=1e-5)
                np.testing.assert_allclose(reference.outputs[key][rows], values, atol=1e-5)


@pytest.mark.parametrize("name", ["fixed", "matrix"])
def test_a_fixed_first_dimension_is_refused_where_it_is_to_be_the_batch(
    here: Harness, files: Path, right: object, tmp_path: Path, name: str
) -> None:
    assert right
    path = place(files, name)
    batches = ("--max-batch-size", 8, "--output", tmp_path / "models")
    done = here("export", KINDS[name], path, *batches, code=2)
    said = done.stderr.strip()
    assert said.startswith(f"error: {path}: max_batch_size 8 needs a dynamic first dimension"), said
    assert said.endswith("or export with --max-batch-size 0."), said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "models").exists()


def test_a_network_that_was_never_built_is_refused(here: Harness, tmp_path: Path) -> None:
    keras = load_keras()
    path = tmp_path / "bare.keras"
    with quiet():
        keras.Sequential([keras.layers.Dense(2)]).save(path)
    done = here("export", "--keras", path, "--output", tmp_path / "models", code=2)
    assert done.stderr.strip() == (
        f"error: {path}: the Keras model was never built, so that its inputs are not known."
        " Build it with keras.Input, and save it again."
    )
    assert not (tmp_path / "models").exists()


def test_examples_that_the_original_does_not_take_are_refused(
    here: Harness, tmp_path: Path
) -> None:
    keras = load_keras()
    path = tmp_path / "table.keras"
    with quiet():
        keras.Sequential([keras.Input((4,), dtype="int64", name="tokens"), keras.layers.Embedding(5, 2)]).save(path)  # fmt: skip
    beyond = ("--range", "tokens=90:91", "--output", tmp_path / "models")
    done = here("export", "--keras", path, *beyond, code=2)
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith(f"error: {path}: the model does not take the example inputs ("), said
    assert said.endswith("Give others with --shape and --range, or with --data."), said
    assert not (tmp_path / "models").exists()
