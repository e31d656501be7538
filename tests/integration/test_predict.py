"""Pictures in, classes out, on a real Triton."""

from __future__ import annotations

import json
import socket
import uuid
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from harness.reference import read_reference
from harness.repository.exported import open_model
from harness.scenario import ServerSpec
from harness.servers.control import Control
from harness.servers.staging import staged
from harness.servers.start import serving
from tests import onnx_models

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.reference import Reference

    Harness = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def repository(
    harness: Harness, triton_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    file = onnx_models.lookup(tmp_path_factory.mktemp("files") / "lookup.onnx")
    options = ("--shape", "tokens=3", "--output", triton_models)
    harness("export", "--onnx", file, *options)
    return triton_models


@pytest.fixture(scope="module")
def host(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run_id = f"test-{uuid.uuid4().hex[:8]}"
    logs = tmp_path_factory.mktemp("logs")
    folders = {path.name: path for path in repository.iterdir()}
    with (
        staged(folders, run_id) as copy,
        serving(ServerSpec(), copy, logs=logs, run_id=run_id) as server,
        Control(server.endpoints) as control,
    ):
        for name in folders:
            control.load(name, deadline_s=60)
        yield server.endpoints.grpc


@pytest.fixture(scope="module")
def reference(repository: Path) -> Reference:
    model = open_model(repository, "cnn")
    assert model.reference is not None
    return read_reference(model.reference)


@pytest.fixture
def picture(reference: Reference, tmp_path: Path) -> Path:
    """The first test image, as a picture of 0 to 255."""
    path = tmp_path / "digit.png"
    pixels = np.round(reference.inputs["image"][0, :, :, 0] * 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_arrays_get_the_probabilities_that_keras_gives(
    harness: Harness, host: str, reference: Reference, tmp_path: Path
) -> None:
    """More of them than one batch holds."""
    paths = []
    for place in range(70):
        paths.append(tmp_path / f"{place:02d}.npy")
        np.save(paths[-1], reference.inputs["image"][place])
    done = harness("predict", *paths, "--host", host, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in paths]
    right = reference.outputs["probabilities"][:70]
    answers = [[line["probabilities"][str(digit)] for digit in range(10)] for line in lines]
    assert np.abs(np.array(answers) - right).max() < 1e-5
    assert [line["class"] for line in lines] == [str(digit) for digit in right.argmax(axis=1)]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_is_named_with_its_best_classes(
    harness: Harness, host: str, reference: Reference, picture: Path, suffix: str
) -> None:
    with Image.open(picture) as image:
        picture = picture.with_suffix(suffix)
        image.save(picture, quality=100)
    done = harness("predict", picture, "--host", host, "--top", 2)
    best, second = np.argsort(-reference.outputs["probabilities"][0])[:2]
    assert done.stdout.startswith(f"{picture}: {best} (")
    assert f", {second} (" in done.stdout
    assert done.stdout.count("(") == 2


def test_paper_and_another_size_are_brought_to_what_the_model_takes(
    harness: Harness, host: str, reference: Reference, picture: Path, tmp_path: Path
) -> None:
    paper = tmp_path / "paper.png"
    with Image.open(picture) as image:
        pixels = np.asarray(image)
    Image.fromarray(255 - np.kron(pixels, np.ones((4, 4), np.uint8))).save(paper)
    done = harness("predict", paper, "--host", host, "--resize", "--invert")
    best = reference.outputs["probabilities"][0].argmax()
    assert done.stdout.startswith(f"{paper}: {best} (")


def test_what_cannot_be_sent_is_refused_with_the_way_out(
    harness: Harness, host: str, picture: Path, tmp_path: Path
) -> None:
    large, text = tmp_path / "large.png", tmp_path / "text.png"
    nan, shape = tmp_path / "nan.npy", tmp_path / "shape.npy"
    Image.new("L", (64, 32)).save(large)
    text.write_text("no picture")
    np.save(nan, np.full((28, 28, 1), np.nan, np.float32))
    np.save(shape, np.zeros((28, 27)))
    for arguments, sentence in (
        ((large,), f"{large}: is 64×32, and the model takes 28×28. Add --resize"),
        ((text,), f"{text}: cannot be read (not a picture)"),
        ((tmp_path / "none.png",), "none.png: cannot be read (no such file)"),
        ((nan,), f"{nan}: holds NaN or infinity. Save it again with finite values."),
        (
            (shape,),
            f"{shape}: has shape [28, 27], and the model takes [28, 28, 1]. Save one picture",
        ),
        ((picture, "--host", "http://127.0.0.1:8001"), "is not the address of a gRPC endpoint"),
        ((picture, "--model", "none"), "the server has no model none ready"),
        ((picture, "--model", "lookup"), "the model has several inputs"),
    ):
        done = harness("predict", "--host", host, *arguments, code=2)
        assert sentence in done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr


def test_no_server_is_said(harness: Harness, picture: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = harness("predict", picture, "--host", f"127.0.0.1:{port}", code=3)
    assert "no Triton answers over gRPC" in done.stderr
    assert "harness serve" in done.stderr
