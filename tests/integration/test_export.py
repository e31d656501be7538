"""The exported network on a real Triton: it loads, is configured as asked, and answers as Keras does."""

from __future__ import annotations

import hashlib
import json
import uuid
from itertools import pairwise
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton

from harness.point import DynamicBatching, ServerConfiguration
from harness.reference import read_reference
from harness.repository.configuration import differences, with_server_configuration
from harness.repository.exported import open_model
from harness.scenario import ServerSpec
from harness.servers.control import Control
from harness.servers.staging import staged
from harness.servers.start import serving

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from harness.repository.exported import ExportedModel
    from harness.servers.server import Endpoints

    Harness = Callable[..., subprocess.CompletedProcess[str]]

LOAD_S = 60


@pytest.fixture(scope="module")
def model(triton_models: Path) -> ExportedModel:
    return open_model(triton_models, "cnn")


@pytest.fixture(scope="module")
def endpoints(
    model: ExportedModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoints]:
    run_id = f"test-{uuid.uuid4().hex[:8]}"
    logs = tmp_path_factory.mktemp("logs")
    with (
        staged({model.name: model.folder}, run_id) as repository,
        serving(ServerSpec(), repository, logs=logs, run_id=run_id) as server,
    ):
        yield server.endpoints


@pytest.fixture
def control(endpoints: Endpoints) -> Iterator[Control]:
    with Control(endpoints) as control:
        yield control


@pytest.fixture
def client(endpoints: Endpoints) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(endpoints.grpc) as client:
        yield client


def test_the_exported_configuration_is_what_the_server_has(
    control: Control, model: ExportedModel
) -> None:
    control.load(model.name, model.configuration, deadline_s=LOAD_S)
    assert differences(model.configuration, control.effective_configuration(model.name)) == ()


@pytest.mark.parametrize(
    "batching", [None, DynamicBatching(), DynamicBatching(max_queue_delay_us=1000)]
)
@pytest.mark.parametrize("instances", [1, 2])
def test_every_point_of_the_sweep_reaches_the_server(
    control: Control, model: ExportedModel, instances: int, batching: DynamicBatching | None
) -> None:
    asked = ServerConfiguration(
        model=model.name, instances=instances, dynamic_batching=batching, max_batch_size=32
    )
    config = with_server_configuration(model.configuration, asked)
    control.load(model.name, config, deadline_s=LOAD_S)
    effective = control.effective_configuration(model.name)
    assert differences(config, effective) == ()

    other = asked.model_copy(update={"instances": 3 - instances})
    tampered = with_server_configuration(model.configuration, other)
    assert differences(tampered, effective) == (
        f"instance_group[0].count: asked for {3 - instances}, the server has {instances}",
    )
    delayed = DynamicBatching(max_queue_delay_us=77)
    other = asked.model_copy(update={"dynamic_batching": delayed})
    assert differences(with_server_configuration(model.configuration, other), effective)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_server_answers_as_keras_does(
    control: Control,
    client: triton.InferenceServerClient,
    model: ExportedModel,
    batch_size: int,
) -> None:
    control.load(model.name, model.configuration, deadline_s=LOAD_S)
    assert model.reference is not None
    reference = read_reference(model.reference)
    images = reference.inputs["image"][:batch_size]
    tensor = triton.InferInput("image", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    answer = client.infer(model.name, [tensor]).as_numpy("probabilities")
    assert answer.shape == (batch_size, 10)
    assert np.abs(answer - reference.outputs["probabilities"][:batch_size]).max() < 1e-4


def test_waiting_requests_of_different_sizes_are_batched_and_each_gets_its_own_answers(
    control: Control, client: triton.InferenceServerClient, model: ExportedModel
) -> None:
    asked = ServerConfiguration(
        model=model.name, dynamic_batching=DynamicBatching(max_queue_delay_us=300_000)
    )
    control.load(
        model.name, with_server_configuration(model.configuration, asked), deadline_s=LOAD_S
    )
    assert model.reference is not None
    reference = read_reference(model.reference)
    before = control.snapshot(model.name)
    answers: Queue[tuple[slice, object]] = Queue()
    edges = (0, 3, 4, 9, 11)
    for start, end in pairwise(edges):
        rows = slice(start, end)
        tensor = triton.InferInput("image", [end - start, 28, 28, 1], "FP32")
        tensor.set_data_from_numpy(reference.inputs["image"][rows])
        client.async_infer(
            model.name,
            [tensor],
            callback=lambda result, error, rows=rows: answers.put((rows, error or result)),
        )
    for _ in pairwise(edges):
        rows, result = answers.get(timeout=30)
        assert isinstance(result, triton.InferResult), result
        right = reference.outputs["probabilities"][rows]
        assert np.abs(result.as_numpy("probabilities") - right).max() < 1e-4
    after = control.snapshot(model.name)
    executed = after.counts["execution_count"] - before.counts["execution_count"]
    assert executed < len(edges) - 1, "nothing was batched, so nothing was split either"


def test_the_committed_configuration_is_what_export_writes(model: ExportedModel) -> None:
    committed = Path(__file__).parents[2] / "triton_models" / "cnn" / "config.pbtxt"
    assert (model.folder / "config.pbtxt").read_text("utf-8") == committed.read_text("utf-8")


def test_the_record_says_what_was_exported(model: ExportedModel) -> None:
    record = model.record
    assert record["backend"] == "python"
    assert record["parity"]["largest_difference"] <= record["parity"]["allowed"] == 1e-4
    assert 0.5 < record["accuracy"] <= 1
    assert set(record["files"]) == {
        "config.pbtxt",
        "reference.npz",
        "1/model.onnx",
        "1/model.py",
    }
    for name, digest in record["files"].items():
        assert hashlib.sha256((model.folder / name).read_bytes()).hexdigest() == digest


def test_the_largest_difference_is_printed(harness: Harness, trained: Path, tmp_path: Path) -> None:
    done = harness("export", "--source", trained, "--output", tmp_path)
    first, *_, last = done.stdout.splitlines()
    record = json.loads((tmp_path / "cnn" / "export.json").read_text("utf-8"))
    assert f"{record['parity']['largest_difference']:.2g}" in first
    assert last == str(tmp_path / "cnn")
