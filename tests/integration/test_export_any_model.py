"""Models of every kind, exported with every option, loaded and asked on a real Triton."""

from __future__ import annotations

import uuid
from queue import Queue
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException
from typer.testing import CliRunner

from harness.cli import app, verbs
from harness.point import DynamicBatching, ServerConfiguration
from harness.reference import read_reference
from harness.repository.configuration import differences, with_server_configuration
from harness.repository.exported import open_model
from harness.repository.tensors import DATA_TYPES
from harness.scenario import ServerSpec
from harness.servers.control import Control
from harness.servers.staging import staged
from harness.servers.start import serving
from tests import onnx_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.servers.server import Endpoints

# The first test exports two dozen models before its own time begins.
pytestmark = pytest.mark.timeout(900)
LOAD_S = 60
FAR_US = 600 * 10**6  # a server that is held up for seconds rejects nothing
LOOKUP = ("--shape", "tokens=7", "--range", f"tokens=0:{onnx_models.VOCABULARY}")
# Each is the network with one option of the configuration, or some that go together.
OPTIONS: dict[str, tuple[object, ...]] = {
    "no_dynamic_batching": ("--no-dynamic-batching",),
    "delay": ("--max-queue-delay-us", 500),
    "preferred": ("--preferred-batch-size", "4,8"),
    "ordering": ("--preserve-ordering",),
    "queue_reject": ("--max-queue-size", 100, "--queue-timeout-us", FAR_US),
    "queue_delay": ("--queue-timeout-us", FAR_US, "--timeout-action", "delay"),
    "priorities": ("--priority-levels", 3),
    "small_batches": ("--max-batch-size", 4),
    "instances": ("--instances", 2),
    "response_cache": ("--response-cache",),
    "threads": ("--threads", 2, "--inter-op-threads", 2),
    "warmup": ("--warmup", "1,2,4,64"),
    "no_warmup": ("--warmup", ""),
    "all_versions": ("--version", 3, "--version-policy", "all"),
    "one_version": ("--version-policy", "1"),
    "graph_extended": ("--graph-optimization", "extended"),
    "graph_basic": ("--graph-optimization", "basic"),
    "graph_none": ("--graph-optimization", "none"),
    "cnn_float16": ("--precision", "float16"),
    "cnn_int8": ("--precision", "int8", "--max-accuracy-loss", 0.05),
}
FILES: dict[str, tuple[Callable[[Path], Path], tuple[object, ...]]] = {
    "lookup": (onnx_models.lookup, LOOKUP),
    "unbatched": (onnx_models.unbatched, ()),
    "rows": (onnx_models.rows, ("--shape", "matrix=3,5")),
    "every_type": (onnx_models.every_type, ()),
    "labels": (onnx_models.labels, ()),
    "linear_int8": (onnx_models.linear, ("--precision", "int8", "--max-accuracy-loss", 0.2)),
}


def export(*options: object) -> None:
    """The command, in this process: two dozen of them would otherwise import ONNX Runtime each."""
    assert "export" in verbs.__all__  # gathering the verbs has registered it
    done = CliRunner().invoke(app, ["export", *map(str, options)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def root(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for name, options in OPTIONS.items():
        export("--source", trained, "--name", name, "--output", root, *options)
    files = tmp_path_factory.mktemp("files")
    for name, (write, options) in FILES.items():
        path = write(files / f"{name}.onnx")
        export("--onnx", path, "--name", name, "--output", root, *options)
    external = onnx_models.linear(files / "far" / "linear.onnx", external=True)
    export("--onnx", external, "--name", "external", "--output", root)
    external.unlink()
    (external.parent / "weights" / "model.bin").unlink()
    return root


@pytest.fixture(scope="module")
def endpoints(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    run_id = f"test-{uuid.uuid4().hex[:8]}"
    logs = tmp_path_factory.mktemp("logs")
    folders = {path.name: path for path in root.iterdir()}
    with (
        staged(folders, run_id) as repository,
        serving(ServerSpec(), repository, logs=logs, run_id=run_id) as server,
    ):
        yield server.endpoints


@pytest.fixture(scope="module")
def control(endpoints: Endpoints) -> Iterator[Control]:
    with Control(endpoints) as control:
        yield control


@pytest.fixture(scope="module")
def client(endpoints: Endpoints) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(endpoints.grpc) as client:
        yield client


def requested(tensors: dict[str, tuple[np.ndarray, str]]) -> list[triton.InferInput]:
    inputs = []
    for name, (array, kind) in tensors.items():
        tensor = triton.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array.astype(object) if kind == "BYTES" else array)
        inputs.append(tensor)
    return inputs


def ask(
    client: triton.InferenceServerClient, root: Path, name: str, rows: slice | int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Send examples of a model's own reference; return the answers and the right ones."""
    model = open_model(root, name)
    assert model.reference is not None
    reference = read_reference(model.reference)
    kinds = {
        tensor["name"]: DATA_TYPES[tensor["data_type"]][1]
        for tensor in model.configuration["input"]
    }
    result = client.infer(
        name,
        requested({key: (array[rows], kinds[key]) for key, array in reference.inputs.items()}),
    )
    right = {key: array[rows] for key, array in reference.outputs.items()}
    return {key: result.as_numpy(key) for key in right}, right


@pytest.mark.parametrize("name", [*OPTIONS, *FILES, "external"])
def test_the_server_has_what_was_exported_and_answers_rightly(
    control: Control, client: triton.InferenceServerClient, root: Path, name: str
) -> None:
    model = open_model(root, name)
    control.load(name, deadline_s=LOAD_S)
    try:
        assert differences(model.configuration, control.effective_configuration(name)) == ()
        batched = model.configuration["max_batch_size"] > 0
        for rows in (slice(0, 1), slice(3, 7)) if batched else (0, 5):
            answers, right = ask(client, root, name, rows)
            for key, wanted in right.items():
                assert answers[key].shape == wanted.shape
                if wanted.dtype.kind == "f":
                    tolerance = model.record["tolerance"]
                    np.testing.assert_allclose(answers[key], wanted, tolerance, tolerance)
                else:
                    assert answers[key].astype(wanted.dtype).tolist() == wanted.tolist()
    finally:
        control.unload(name)


def test_every_type_travels_as_itself(root: Path) -> None:
    model = open_model(root, "every_type")
    kinds = {DATA_TYPES[tensor["data_type"]][1] for tensor in model.configuration["input"]}
    assert kinds == {"BYTES" if name == "STRING" else name for name in onnx_models.TYPES}
    assert model.reference is not None
    reference = read_reference(model.reference)
    for name, array in reference.inputs.items():
        assert np.array_equal(array, reference.outputs[name.replace("in_", "out_")])
        assert len(np.unique(array)) > 1, f"{name} would look right if it were all zeros"


def test_a_bad_request_fails_alone(
    control: Control, client: triton.InferenceServerClient, root: Path
) -> None:
    """An index beyond the table fails in the model; the requests of its batch must not."""
    asked = ServerConfiguration(
        model="lookup", dynamic_batching=DynamicBatching(max_queue_delay_us=300_000)
    )
    config = with_server_configuration(open_model(root, "lookup").configuration, asked)
    control.load("lookup", config, deadline_s=LOAD_S)
    good = np.full((1, 7), 4, np.int64)
    bad = np.full((1, 7), onnx_models.VOCABULARY, np.int64)
    answers: Queue[tuple[int, Any]] = Queue()
    before = control.snapshot("lookup")
    for place, tokens in enumerate([good, bad, good, good]):
        factor = np.array([[place]], np.int64)
        client.async_infer(
            "lookup",
            requested({"tokens": (tokens, "INT64"), "factor": (factor, "INT64")}),
            callback=lambda result, error, place=place: answers.put((place, error or result)),
        )
    found = dict(answers.get(timeout=30) for _ in range(4))
    executions = control.snapshot("lookup").counts["execution_count"]
    assert executions - before.counts["execution_count"] < 4, "they did not share a batch"
    assert isinstance(found[1], InferenceServerException)
    assert "indices element out of data bounds" in str(found[1])
    for place in (0, 2, 3):
        right = onnx_models.TABLE[4] * place
        np.testing.assert_allclose(found[place].as_numpy("scores")[0], right, rtol=1e-5)
    control.unload("lookup")


def test_dynamic_lengths_of_one_execution_do_not_mix(
    control: Control, client: triton.InferenceServerClient
) -> None:
    control.load("lookup", deadline_s=LOAD_S)
    for length in (1, 3, 12):
        tokens = np.arange(length, dtype=np.int64)[np.newaxis]
        result = client.infer(
            "lookup",
            requested({"tokens": (tokens, "INT64"), "factor": (np.array([[2]]), "INT64")}),
        )
        right = onnx_models.TABLE[:length].mean(axis=0) * 2
        np.testing.assert_allclose(result.as_numpy("scores")[0], right, rtol=1e-5)
    control.unload("lookup")


def test_a_dimension_is_dynamic_where_none_is_the_batch(
    control: Control, client: triton.InferenceServerClient, root: Path
) -> None:
    config = open_model(root, "rows").configuration
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [-1, 5])
    control.load("rows", deadline_s=LOAD_S)
    for count in (1, 3, 12):
        matrix = np.random.default_rng(count).normal(size=(count, 5)).astype(np.float32)
        result = client.infer("rows", requested({"matrix": (matrix, "FP32")}))
        assert np.array_equal(result.as_numpy("largest"), matrix.max(axis=0))
    control.unload("rows")


def test_versions_stand_side_by_side(
    trained: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = ("--source", trained, "--name", "cnn", "--output", tmp_path)
    export(*source)
    export(*source, "--precision", "int8", "--max-accuracy-loss", 0.05, "--version", 2, "--beside", "--version-policy", "all")  # fmt: skip
    model = open_model(tmp_path, "cnn")
    assert model.record["served_version"] == 2
    assert model.record["precision"] == "int8"
    assert {key: each["precision"] for key, each in model.record["versions"].items()} == {
        "1": "float32",
        "2": "int8",
    }
    run_id = f"test-{uuid.uuid4().hex[:8]}"
    with (
        staged({"cnn": model.folder}, run_id) as repository,
        serving(
            ServerSpec(), repository, logs=tmp_path_factory.mktemp("logs"), run_id=run_id
        ) as server,
        Control(server.endpoints) as control,
        triton.InferenceServerClient(server.endpoints.grpc) as client,
    ):
        control.load("cnn", deadline_s=LOAD_S)
        for version, file in (
            ("1", "reference-1.npz"),
            ("2", "reference.npz"),
            ("", "reference.npz"),
        ):
            reference = read_reference(model.folder / file)
            images = reference.inputs["image"][:8]
            answer = client.infer(
                "cnn", requested({"image": (images, "FP32")}), model_version=version
            )
            right = reference.outputs["probabilities"][:8]
            np.testing.assert_allclose(answer.as_numpy("probabilities"), right, atol=1e-4)
        one = read_reference(model.folder / "reference-1.npz").outputs["probabilities"]
        two = read_reference(model.folder / "reference.npz").outputs["probabilities"]
        assert np.abs(one - two).max() > 1e-3, "the versions cannot be told apart"

        # Which are served is the policy's to say, and which answers a request that names none.
        image = requested({"image": (images, "FP32")})
        for policy, served, other, answers in (
            ({"specific": {"versions": [1]}}, "1", "2", one),
            ({"latest": {"num_versions": 1}}, "2", "1", two),
        ):
            config = model.configuration | {"version_policy": policy}
            control.load("cnn", config, deadline_s=LOAD_S)
            assert differences(config, control.effective_configuration("cnn")) == ()
            answer = client.infer("cnn", image).as_numpy("probabilities")
            np.testing.assert_allclose(answer, answers[:8], atol=1e-4)
            assert client.is_model_ready("cnn", served)
            assert not client.is_model_ready("cnn", other)
