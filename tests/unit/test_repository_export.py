"""Export writes a folder whole or not at all, and refuses what would answer wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.errors import UsageError
from harness.reference import Reference, read_reference, write_reference
from harness.repository import graph
from harness.repository.export import Exported, Target, export_model
from harness.repository.exported import open_model
from harness.repository.options import ServingOptions
from harness.repository.source import Examples, Run, file_source, trained_source
from tests import onnx_models

WEIGHTS = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def write_source(folder: Path, *, batch: str | int = "batch", error: float = 0.0) -> Path:
    """A folder as training leaves it: a linear model of four inputs and three outputs."""
    folder.mkdir(parents=True)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    x = np.random.default_rng(2).normal(size=(70, 4)).astype(np.float32)
    y = x @ WEIGHTS
    labels = y.argmax(axis=1).astype(np.int64)
    y[69, 2] += error
    write_reference(folder / "reference.npz", Reference({"x": x}, {"y": y}, labels))
    (folder / "training.json").write_text('{"model": "linear", "parameters": 12}')
    return folder


def no_saved_model(_: Path) -> Run:
    raise AssertionError("there is none")


def export_trained(source: Path, root: Path, name: str, options: ServingOptions) -> Exported:
    read = trained_source(source, options.max_batch_size, no_saved_model)
    return export_model(read, root, Target(name=name, options=options))


def everything_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source")


def test_the_folder_is_complete_and_opens(source: Path, tmp_path: Path) -> None:
    done = export_trained(source, tmp_path / "models", "linear", ServingOptions())
    assert done.parity.largest_difference < 1e-5
    assert done.parity.examples == 70
    assert done.accuracy == 1.0
    model = open_model(tmp_path / "models", "linear")
    assert sorted(everything_in(model.folder)) == [
        "1/model.onnx",
        "1/model.py",
        "config.pbtxt",
        "export.json",
        "reference.npz",
    ]
    assert model.configuration["max_batch_size"] == 64
    assert model.configuration["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]
    assert model.configuration["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert model.configuration["parameters"] == {
        "inter_op_thread_count": {"string_value": "1"},
        "intra_op_thread_count": {"string_value": "1"},
    }
    assert [sample["batch_size"] for sample in model.configuration["model_warmup"]] == [1, 8, 64]
    assert model.reference is not None
    assert read_reference(model.reference).examples == 70
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["linear"]


def test_answers_that_are_not_the_reference_s_are_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", error=2e-4)
    with pytest.raises(UsageError, match=r"differ from the reference by 0\.0002 in y"):
        export_trained(source, tmp_path / "models", "linear", ServingOptions())
    assert not (tmp_path / "models").exists()


def test_a_small_difference_passes_and_is_told(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", error=5e-5)
    done = export_trained(source, tmp_path / "models", "linear", ServingOptions())
    assert done.parity.largest_difference == pytest.approx(5e-5, rel=0.1)
    assert done.model.record["parity"]["largest_difference"] == done.parity.largest_difference


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"model.onnx": b"not a model"}, "not a usable ONNX model"),
        ({"model.onnx": None}, "no such ONNX file"),
        ({"reference.npz": b"PK"}, "not readable reference data"),
        ({"reference.npz": None}, "no such file"),
        ({"training.json": b"{"}, "not a readable record"),
        ({"training.json": None}, "no trained model"),
    ],
)
def test_a_damaged_source_leaves_the_older_export_as_it_was(
    source: Path, tmp_path: Path, damage: dict[str, bytes | None], reason: str
) -> None:
    root = tmp_path / "models"
    export_trained(source, root, "linear", ServingOptions())
    before = everything_in(root)
    [(name, content)] = damage.items()
    (source / name).unlink()
    if content is not None:
        (source / name).write_bytes(content)
    with pytest.raises(UsageError, match=reason) as caught:
        export_trained(source, root, "linear", ServingOptions())
    assert str(source) in str(caught.value)
    assert everything_in(root) == before


def test_a_new_export_replaces_the_old_one(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    export_trained(source, root, "linear", ServingOptions(instances=1))
    export_trained(source, root, "linear", ServingOptions(instances=2, dynamic_batching=None))
    config = open_model(root, "linear").configuration
    assert config["instance_group"] == [{"count": 2, "kind": "KIND_CPU"}]
    assert "dynamic_batching" not in config
    assert [path.name for path in root.iterdir()] == ["linear"]


def test_a_folder_of_somebody_else_is_not_replaced(source: Path, tmp_path: Path) -> None:
    notes = tmp_path / "models" / "linear" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(UsageError, match=r"holds no config\.pbtxt"):
        export_trained(source, tmp_path / "models", "linear", ServingOptions())
    assert notes.read_text() == "mine"


def test_a_fixed_first_dimension_takes_no_batches(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", batch=70)
    with pytest.raises(UsageError, match=r"first dimension, but that of x FP32 \[70, 4\] is fixed"):
        export_trained(source, tmp_path / "models", "m", ServingOptions(max_batch_size=8))
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b", "é", "x" * 129])
def test_a_name_that_triton_cannot_take_is_refused(source: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a model"):
        export_trained(source, tmp_path / "models", name, ServingOptions())


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "was not exported here"),
        ("{", "not a readable record"),
        ('{"schema_version": 99}', "schema 99"),
    ],
)
def test_an_export_that_is_not_whole_does_not_open(
    source: Path, tmp_path: Path, record: str | None, reason: str
) -> None:
    export_trained(source, tmp_path, "linear", ServingOptions())
    path = tmp_path / "linear" / "export.json"
    path.unlink()
    if record is not None:
        path.write_text(record)
    with pytest.raises(UsageError, match=reason) as caught:
        open_model(tmp_path, "linear")
    assert f"harness export --onnx FILE --name linear --output {tmp_path}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("gru", "Make it with harness export --source build/models/gru."),
        ("gru_int8", "Make it with harness export --source build/models/gru --precision int8."),
        ("liner", "Did you mean linear?"),
        (
            "linear_float16",
            "Make it with harness export --precision float16 from the model that linear was made of.",
        ),
        (
            "resnet50",
            "Make it of your own model with harness export --onnx FILE --name resnet50.",
        ),
        (
            "resnet50_int8",
            (
                "Make it of your own model with harness export --onnx FILE --name resnet50_int8"
                " --precision int8."
            ),
        ),
        (
            "cnn_wide",
            (
                "Train it with harness train --network cnn_wide, then make it with harness export"
                " --source build/models/cnn_wide; a model of your own with --onnx FILE --name cnn_wide."
            ),
        ),
    ],
)
def test_a_missing_model_says_how_it_is_made(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("build/models/gru").mkdir(parents=True)
    export_trained(source, Path("triton_models"), "linear", ServingOptions())
    with pytest.raises(UsageError, match="no exported model") as caught:
        open_model(Path("triton_models"), name)
    assert str(caught.value).endswith(f"no exported model {name}. {remedy}")


def test_what_was_not_copied_is_missed_before_the_export_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = onnx_models.linear(tmp_path / "far" / "linear.onnx", external=True)
    monkeypatch.setattr(graph, "uses_external_data", lambda _: False)
    source = file_source(path, None, Examples())
    with pytest.raises(UsageError, match="cannot load the model"):
        export_model(source, tmp_path / "models", Target(name="linear"))
    assert everything_in(tmp_path / "models") == {}


def test_weights_beside_the_file_are_found_in_branches_and_constants(tmp_path: Path) -> None:
    path = onnx_models.branches(tmp_path / "far" / "branches.onnx")
    inside = {f"{name}.bin" for name in ("then", "otherwise", "shift")}
    assert set(graph.read_graph(path).external_files) == inside
    source = file_source(path, None, Examples())
    done = export_model(source, tmp_path / "models", Target(name="branches"))
    assert done.parity.largest_difference == 0
    assert inside < {file.name for file in (done.model.folder / "1").iterdir()}


def test_the_record_holds_no_more_than_json(source: Path, tmp_path: Path) -> None:
    export_trained(source, tmp_path, "linear", ServingOptions(warmup=(1, 2)))
    record: dict[str, Any] = json.loads((tmp_path / "linear" / "export.json").read_text())
    assert record["options"]["warmup"] == [1, 2]
    assert record["training"] == {"model": "linear", "parameters": 12}
