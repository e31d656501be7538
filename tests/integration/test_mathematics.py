"""Keras, ONNX Runtime and a real Triton against the formulas."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from harness.models.evaluation import evaluate
from harness.models.framework import load_keras, seeded_keras
from harness.models.onnx_file import run_onnx, write_onnx
from harness.models.training import probabilities
from harness.networks import Penalty, build_network
from harness.reference import read_reference
from harness.scenario import ServerSpec
from harness.servers.control import Control
from harness.servers.staging import staged
from harness.servers.start import serving
from tests import formulas

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_DIFFERENCE = 1e-5


def test_the_trained_reference_network_computes_the_formulas(trained: Path) -> None:
    reference = read_reference(trained / "reference.npz")
    x = reference.inputs["image"]
    model = load_keras().saving.load_model(trained / "model.keras")
    exact = formulas.run_convolutional(formulas.weights_of(model), x.astype(np.float64))
    for answers in (
        reference.outputs["probabilities"],
        probabilities(model, x),
        run_onnx(trained / "model.onnx", x),
    ):
        assert np.abs(answers - exact).max() < LARGEST_DIFFERENCE
    # The formulas know the digits too, so the weights were read in the right order.
    assert reference.labels is not None
    assert evaluate(exact.astype(np.float32), reference.labels, tuple("0123456789")).accuracy > 0.6


def test_the_served_answer_is_that_of_the_formulas(
    trained: Path, triton_models: Path, tmp_path: Path
) -> None:
    x = read_reference(trained / "reference.npz").inputs["image"][:64]
    weights = formulas.weights_of(load_keras().saving.load_model(trained / "model.keras"))
    exact = formulas.run_convolutional(weights, x.astype(np.float64))
    image = grpcclient.InferInput("image", list(x.shape), "FP32")
    image.set_data_from_numpy(x)
    run_id = f"test-{uuid.uuid4().hex[:8]}"
    with (
        staged({"cnn": triton_models / "cnn"}, run_id) as copy,
        serving(ServerSpec(), copy, logs=tmp_path, run_id=run_id) as server,
        Control(server.endpoints) as control,
        grpcclient.InferenceServerClient(server.endpoints.grpc) as client,
    ):
        control.load("cnn", deadline_s=60)
        answers = client.infer("cnn", [image]).as_numpy("probabilities")
    assert np.abs(answers - exact).max() < LARGEST_DIFFERENCE


@pytest.mark.parametrize("network", ["cnn", "cnn_small", "cnn_wide", "gru"])
def test_every_network_computes_the_formulas_with_any_weights(network: str, tmp_path: Path) -> None:
    model = build_network(seeded_keras(3), network, 10, Penalty())
    rng = np.random.default_rng(3)
    # Biases start at zero, which would hide a wrong one.
    model.set_weights([w + rng.normal(0, 0.05, w.shape) for w in model.get_weights()])
    x = rng.random((8, 28, 28, 1), dtype=np.float32)
    run = formulas.run_recurrent if network == "gru" else formulas.run_convolutional
    exact = run(formulas.weights_of(model), x.astype(np.float64))
    assert np.abs(probabilities(model, x) - exact).max() < LARGEST_DIFFERENCE
    write_onnx(model, tmp_path / "model.onnx")
    assert np.abs(run_onnx(tmp_path / "model.onnx", x) - exact).max() < LARGEST_DIFFERENCE
    assert np.ptp(exact, axis=0).max() > 0.001  # the answers depend on the images
