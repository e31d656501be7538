"""Models of a user's own, and precisions of one network, swept on a real Triton with every answer checked."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from harness.archive import open_run
from harness.repository.exported import open_model
from tests import onnx_models

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Harness = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.long

MEASURE = """
measure: {window: 500ms, passes: 2, sentinels: false}
slo: {p99: 5s, errors: 0}
"""
OWN = """\
model: [lookup, unbatched]
sweep: {protocol: [http, grpc], concurrency: 4}
"""
PRECISIONS = """\
model: cnn
sweep: {precision: [float32, float16, int8], concurrency: 4}
"""


@pytest.fixture(scope="module")
def root(here: Harness, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, files = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("files")
    for precision in ("float32", "float16", "int8"):
        loss = ("--max-accuracy-loss", 0.05)
        here("export", "--source", trained, "--precision", precision, *loss, "--output", root)
    lookup = onnx_models.lookup(files / "lookup.onnx")
    shape = ("--shape", "tokens=7", "--range", f"tokens=0:{onnx_models.VOCABULARY}")
    here("export", "--onnx", lookup, *shape, "--output", root)
    here("export", "--onnx", onnx_models.unbatched(files / "unbatched.onnx"), "--output", root)
    return root


def sweep(harness: Harness, root: Path, folder: Path, text: str) -> tuple[Path, str]:
    """Run a scenario; every answer must have been right. Returns the run and what was printed."""
    scenario = folder / "models.yaml"
    scenario.write_text(text + MEASURE)
    # A busy machine may leave no point valid; whether every answer was right it does not change.
    done = harness("run", scenario, "--models", root, "--output", folder / "reports", code=(0, 4))
    run = next((folder / "reports").iterdir())
    assert done.stdout.splitlines()[-1] == str(run / "index.html")
    for row in points(run):
        assert int(row["requests"]) > 30, row
        assert (row["errors"], row["wrong_answers"]) == ("0", "0"), row
    archive = open_run(run)
    for trial in archive.trials():
        compared = archive.samples(trial.index)["compared"].to_numpy()
        assert len(compared) > 0
        # Answers of so few values are all held against the reference.
        assert compared.all(), trial.point
    return run, done.stdout


def points(run: Path) -> list[dict[str, str]]:
    with (run / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def calibrated(run: Path) -> list[tuple[str, ...]]:
    """Whose tensors the generator was measured with; every point is held against that."""
    told = json.loads((run / "summary.json").read_text())
    assert all(0 < point["of_generator_ceiling"] < 2 for point in told["points"])
    record = open_run(run).record()
    assert record.calibration is not None
    return [row.models for row in record.calibration.rows]


def test_two_inputs_of_any_length_and_a_model_without_batches_are_swept_and_checked(
    harness: Harness, root: Path, tmp_path: Path
) -> None:
    run, _ = sweep(harness, root, tmp_path, OWN)
    assert len(points(run)) == 4
    assert calibrated(run) == [("lookup",), ("lookup",), ("unbatched",), ("unbatched",)]
    assert "unbatched: gRPC, client batch 1" in (run / "index.html").read_text()


def test_precisions_of_one_network_compete_in_one_sweep(
    harness: Harness, root: Path, tmp_path: Path
) -> None:
    run, said = sweep(harness, root, tmp_path, PRECISIONS)
    assert calibrated(run) == [("cnn", "cnn_float16", "cnn_int8")]
    (contest,) = json.loads((run / "summary.json").read_text())["models"]
    contenders = {each["model"]: each for each in contest["contenders"]}
    assert {name: each["precision"] for name, each in contenders.items()} == {
        "cnn": "float32",
        "cnn_float16": "float16",
        "cnn_int8": "int8",
    }
    for name, each in contenders.items():
        assert each["accuracy"]["estimate"] == pytest.approx(
            open_model(root, name).record["accuracy"]
        )
        assert each["accuracy"]["low"] < each["accuracy"]["estimate"] < each["accuracy"]["high"]
    assert "Accuracy against throughput" in (run / "index.html").read_text()
    # The front holds those with a valid point, which a busy machine may leave without any.
    front = [name for name, each in contenders.items() if each["front"]]
    assert all(contenders[name]["throughput"] for name in front)
    assert ("on the front of accuracy and throughput" in said) == bool(front)
