"""What ``harness export`` refuses: one sentence with the place and the way out, and nothing written."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image

from harness.cli import main
from harness.repository.source import Examples, file_source
from tests import onnx_models
from tests.unit.test_repository_export import write_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    """The command takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Export with ``options``; it must end with 2 and leave no trace. Returns what it said."""

    def call(*options: object) -> str:
        root = tmp_path / "models"
        with pytest.raises(SystemExit) as end:
            main(["export", *map(str, options), "--output", str(root)])
        assert end.value.code == 2
        assert not [path for path in root.rglob("*") if path.is_file()]
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        return " ".join(captured.err.split())

    return call


@pytest.fixture
def lookup(tmp_path: Path) -> Path:
    return onnx_models.lookup(tmp_path / "lookup.onnx")


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    return onnx_models.linear(tmp_path / "linear.onnx")


def test_files_that_are_no_model(refused: Callable[..., str], tmp_path: Path) -> None:
    corrupt, empty = tmp_path / "corrupt.onnx", tmp_path / "empty.onnx"
    corrupt.write_bytes(onnx_models.linear(tmp_path / "a.onnx").read_bytes()[:-40])
    empty.touch()
    for path in (corrupt, empty, tmp_path):
        said = refused("--onnx", path)
        assert f"error: {path}: not a usable ONNX model (" in said
        assert "Give an ONNX file that onnx.checker accepts." in said
    assert "no such ONNX file. Check the path" in refused("--onnx", tmp_path / "none.onnx")
    assert "no trained model. Train the network first" in refused("--source", tmp_path / "none")


def test_weights_that_are_not_there(refused: Callable[..., str], tmp_path: Path) -> None:
    path = onnx_models.linear(tmp_path / "far.onnx", external=True)
    (tmp_path / "weights" / "model.bin").unlink()
    assert f"{path}: not a usable ONNX model (" in refused("--onnx", path)


def test_an_operator_that_the_runtime_lacks(refused: Callable[..., str], tmp_path: Path) -> None:
    path = onnx_models.missing_operator(tmp_path / "teleport.onnx")
    said = refused("--onnx", path)
    assert f"error: {path}: ONNX Runtime " in said
    assert "Teleport" in said
    assert "Convert the model with operators and an opset that this runtime has." in said


@pytest.mark.parametrize(
    ("kind", "dims", "sentence"),
    [
        (TensorProto.BFLOAT16, ["batch", 2], "x is of a type that cannot be served (BFLOAT16)"),
        (TensorProto.COMPLEX64, ["batch", 2], "x is of a type that cannot be served (COMPLEX64)"),
        (TensorProto.FLOAT, [], "the tensor x is a scalar, and Triton serves none"),
    ],
)
def test_tensors_that_triton_cannot_serve(
    refused: Callable[..., str], tmp_path: Path, kind: int, dims: list[str | int], sentence: str
) -> None:
    assert sentence in refused("--onnx", onnx_models.of_type(tmp_path / "m.onnx", kind, dims))


def test_a_fixed_first_dimension(refused: Callable[..., str], tmp_path: Path) -> None:
    path = onnx_models.linear(tmp_path / "fixed.onnx", batch=2)
    said = refused("--onnx", path, "--max-batch-size", 8)
    assert f"{path}: max_batch_size 8 needs a dynamic first dimension" in said
    assert "that of x FP32 [2, 8] is fixed" in said
    assert "--max-batch-size 0" in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "has a dynamic dimension, so random data need its shape. State it without the batch dimension, such as --shape tokens=16"),
        (("--shape", "token=4"), "the model has no input token. Did you mean tokens."),
        (("--shape", "tokens=4", "--range", "zzz=0:1"), "the model has no input zzz. Its inputs are: tokens, factor."),
        (("--shape", "tokens=4,4"), "the shape [4, 4] does not fit the input tokens INT64 [?, ?]"),
        (("--shape", "tokens=4", "--shape", "factor=2"), "the shape [2] does not fit the input factor"),
        (("--shape", "tokens=4", "--range", "tokens=5:5"), "the range 5 to 5 of the input tokens is empty"),
        (("--shape", "tokens=4", "--range", "tokens=0:1e30"), "does not fit the input tokens INT64 [?, ?]. Stay within -9.22337e+18 to 9.22337e+18 with --range tokens."),
        (("--shape", "tokens=4", "--range", "tokens=90:91"), "Give others with --shape and --range, or with --data."),
        (("--shape", "tokens=4", "--examples", 10**12), "Ask for fewer with --examples"),
        (("--shape", "tokens"), "expected an input and its shape"),
        (("--range", "tokens=a:b"), "expected an input and its range"),
        (("--shape", "tokens=4", "--data", "tokens.npz"), "--shape is for random inputs, and --data gives the inputs. Give one of the two."),
        (("--shape", "tokens=4", "--resize"), "--resize is for pictures, and none are given. Give their folder with --data."),
        (("--warmup", "1,x"), "expected whole numbers from 1 on"),
        (("--version-policy", "newest"), "expected all, latest:2 or versions such as 1,3"),
    ],
)  # fmt: skip
def test_random_inputs_that_do_not_fit(
    refused: Callable[..., str], lookup: Path, options: tuple[object, ...], sentence: str
) -> None:
    assert sentence in refused("--onnx", lookup, *options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--preferred-batch-size", "8,100"), "the preferred batch size 100 is above max_batch_size 64. Change one of the two, or leave it out."),
        (("--preserve-ordering", "--priority-levels", 2), "2 priority levels let requests overtake, which cannot preserve the ordering"),
        (("--default-priority-level", 1), "has no priority levels to be one of"),
        (("--priority-levels", 2, "--default-priority-level", 3), "the default priority level 3 is not one of 1 to 2"),
        (("--timeout-action", "delay"), "the queue policy delays what has timed out, but has no timeout"),
        (("--no-dynamic-batching", "--max-queue-delay-us", 5), "--no-dynamic-batching leaves nobody to wait"),
        (("--no-dynamic-batching", "--max-queue-size", 5), "belong to the dynamic batcher, and there is none"),
        (("--max-batch-size", 0, "--shape", "x=4,8", "--preserve-ordering"), "cannot be batched dynamically"),
        (("--max-batch-size", 4, "--warmup", "1,8"), "the warm-up batch size 8 is above what the model takes (4)"),
        (("--max-batch-size", 10**12), "not a Triton model configuration"),
        (("--gpus", "0"), "GPUs are listed, but the instances are on the CPU"),
        (("--backend", "openvino", "--kind", "gpu"), "Triton's OpenVINO backend runs on the CPU only"),
        (("--backend", "openvino", "--graph-optimization", "none"), "the level of graph optimization is ONNX Runtime's own"),
        (("--backend", "openvino", "--inter-op-threads", 2), "there are no threads across operators"),
        (("--backend", "tensorflow"), "the TensorFlow backend needs a SavedModel, and there is none"),
        (("--backend", "tensorflow", "--precision", "int8"), "int8 is made by rewriting the ONNX graph"),
        (("--backend", "tensorflow", "--image", "25.03-py3"), "the image 25.03-py3 has no TensorFlow backend: 25.02 was the last that had one"),
        (("--backend", "tensorflow", "--image", "newest"), "'newest' is not the tag of a Triton image"),
        (("--server", "embedded", "--backend", "onnxruntime"), "the embedded server has no onnxruntime backend"),
        (("--server", "embedded", "--image", "25.02"), "the embedded server is no image"),
        (("--version-policy", "1,2"), "the version policy names version 2, and there is none"),
        (("--name", "a/b"), "'a/b' cannot be the name of a model"),
        (("--opset", 99), "cannot be converted to opset 99"),
        (("--keras", "b.keras"), "several models are given: --onnx, --keras"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other(
    refused: Callable[..., str], linear: Path, options: tuple[object, ...], sentence: str
) -> None:
    assert sentence in refused("--onnx", linear, *options)


def test_strings_for_openvino(refused: Callable[..., str], tmp_path: Path) -> None:
    path = onnx_models.of_type(tmp_path / "text.onnx", TensorProto.STRING, ["batch", 2])
    said = refused("--onnx", path, "--backend", "openvino")
    assert "Triton's OpenVINO backend takes no strings" in said


def test_what_has_nothing_to_quantise(refused: Callable[..., str], tmp_path: Path) -> None:
    path = onnx_models.unbatched(tmp_path / "m.onnx")
    assert "nothing that ONNX Runtime quantises" in refused("--onnx", path, "--precision", "int8")
    assert "no float32 weights" in refused("--onnx", path, "--precision", "float16")


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"tokens": np.zeros((3, 4), np.int64)}, "has no data for the input factor INT64 [?, 1]"),
        ({"tokens": np.zeros((3, 4), np.int64), "factor": np.zeros((3, 2), np.int64)}, "the data for factor have shape [3, 2], not [examples, 1]"),
        ({"tokens": np.zeros((3, 4), np.int64), "factor": np.zeros((2, 1), np.int64)}, "different numbers of examples, or none (tokens 3, factor 2)"),
        ({"tokens": np.zeros((0, 4), np.int64), "factor": np.zeros((0, 1), np.int64)}, "different numbers of examples, or none (tokens 0, factor 0)"),
        ({"tokens": np.full((3, 4), np.nan), "factor": np.zeros((3, 1))}, "the data for tokens hold NaN or infinity. Take those examples out."),
        ({"tokens": np.full((3, 4), 0.5), "factor": np.zeros((3, 1))}, "the data for tokens are float64, not tokens INT64 [?, ?]. Save them as int64."),
        ({"tokenz": np.zeros((3, 4), np.int64)}, "the model has no input tokenz. Did you mean tokens."),
        ({"tokens": np.zeros((3, 4), np.int64), "factor": np.zeros((3, 1), np.int64), "labels": np.zeros(2, np.int64)}, "another number of labels than of examples"),
    ],
)  # fmt: skip
def test_data_that_do_not_fit(
    refused: Callable[..., str],
    lookup: Path,
    tmp_path: Path,
    arrays: dict[str, np.ndarray],
    sentence: str,
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    said = refused("--onnx", lookup, "--data", path)
    assert f"{path}: " in said
    assert sentence in said


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, 99, 99], "2 of 3 labels, such as 99, are none of the model's 4 classes. Number the classes from 0 to 3, or leave labels out."),
        ([1, 2, 4], "1 of 3 labels, such as 4, are none"),
        ([-1, 2, 3], "1 of 3 labels, such as -1, are none"),
    ],
)  # fmt: skip
def test_labels_that_are_no_classes_of_the_model(
    refused: Callable[..., str], linear: Path, tmp_path: Path, labels: list[int], sentence: str
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.ones((3, 8), np.float32), labels=np.array(labels))
    assert f"error: {path}: {sentence}" in refused("--onnx", linear, "--data", path)


@pytest.mark.parametrize("folders", [2, 4])
def test_subfolders_that_are_not_the_classes_of_the_model(
    refused: Callable[..., str], tmp_path: Path, folders: int
) -> None:
    """They would be numbered from 0, and the accuracy would be that of other classes."""
    model, pictures = onnx_models.of_pictures(tmp_path / "m.onnx"), tmp_path / "pictures"
    for number in range(folders):
        (pictures / str(number)).mkdir(parents=True)
    Image.new("L", (4, 4)).save(pictures / "1" / "one.png")
    said = refused("--onnx", model, "--data", pictures)
    classes = f"{folders} subfolders would be classes 0 to {folders - 1}, and the model has 3"
    assert f"error: {pictures}: {classes}. Make one for each class" in said


def test_a_subfolder_without_pictures_is_a_class(tmp_path: Path) -> None:
    model, pictures = onnx_models.of_pictures(tmp_path / "m.onnx"), tmp_path / "pictures"
    for name in "abc":
        (pictures / name).mkdir(parents=True)
    Image.new("L", (4, 4)).save(pictures / "b" / "one.png")
    source = file_source(model, None, Examples(data=pictures))
    assert source.reference.labels is not None
    assert source.reference.labels.tolist() == [1]


def test_a_trained_network_is_not_served_without_its_batch_dimension(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source")
    said = refused("--source", source, "--max-batch-size", 0)
    assert f"error: {source}: the trained network has a batch dimension" in said
    assert "Leave --max-batch-size out, or give 1 for one example at a time." in said


def test_data_that_cannot_be_read(
    refused: Callable[..., str], lookup: Path, linear: Path, tmp_path: Path
) -> None:
    pictures, text = tmp_path / "pictures", tmp_path / "data.json"
    pictures.mkdir()
    text.write_text("{")
    np.save(tmp_path / "one.npy", np.zeros((3, 4)))
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4")
    damaged, squashed = tmp_path / "damaged.npz", tmp_path / "squashed.npz"
    np.savez(damaged, x=np.ones((3, 8), np.float32))
    damaged.write_bytes(damaged.read_bytes().replace(b"\x80?\0\0", b"\x80?\0\1"))
    np.savez_compressed(squashed, x=np.random.default_rng(1).normal(size=(30, 8)))
    content = bytearray(squashed.read_bytes())
    content[300:340] = b"\xff" * 40
    squashed.write_bytes(content)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for model, data, sentence in (
        (linear, text, "not readable JSON"),
        (linear, tmp_path / "none.npy", "not a readable array (no such file)"),
        (linear, tmp_path / "none.txt", "no such file or folder"),
        (linear, tmp_path / "linear.onnx", "not data of a known kind"),
        (linear, tmp_path / "broken.npz", "not readable arrays"),
        (linear, damaged, "not readable arrays (Bad CRC-32 for file 'x.npy'). Save them again"),
        (linear, squashed, "not readable arrays ("),
        (linear, tmp_path / "objects.npy", "not a readable array"),
        (linear, pictures, "an input of shape [8] is not a picture"),
        (lookup, tmp_path / "one.npy", "holds one tensor, and the model has the inputs tokens, factor"),
    ):  # fmt: skip
        said = refused("--onnx", model, "--data", data)
        assert f"{data}: {sentence}" in said


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--shape", "foo=3"), "--shape"),
        (("--data", "nosuch.npz"), "--data"),
        (("--range", "foo=0:1"), "--range"),
        (("--resize",), "--resize"),
        (("--examples", 3), "--examples"),
        (("--opset", 17), "--opset"),
    ],
)
def test_a_trained_network_has_examples_of_its_own(
    refused: Callable[..., str], tmp_path: Path, options: tuple[object, ...], named: str
) -> None:
    said = refused("--source", tmp_path / "none", *options)
    assert f"error: {named} is for a model of one's own" in said
    assert f"Leave {named} out, or name the model with --onnx" in said


@pytest.mark.parametrize(
    ("name", "options"), [("cnn_small", ()), ("cnn_small_int8", ("--precision", "int8"))]
)
def test_a_network_does_not_go_by_another_one_s_name(
    refused: Callable[..., str], tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    source = write_source(tmp_path / "source")
    (source / "training.json").write_text('{"model": "cnn"}')
    said = refused("--source", source, "--name", name, *options)
    assert f"{source}: {name} is the name of the network cnn_small, and this is cnn." in said
    assert "Export build/models/cnn_small with --source" in said


def test_a_missing_library_is_one_sentence(
    linear: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SystemExit) as end:
        main(["export", "--onnx", str(linear)])
    assert end.value.code == 3
    assert "onnx is not installed. Install what makes models with" in capsys.readouterr().err


def test_versions_that_do_not_fit_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], linear: Path, lookup: Path
) -> None:
    root = tmp_path / "models"
    with pytest.raises(SystemExit) as end:
        main(["export", "--onnx", str(linear), "--name", "m", "--output", str(root)])
    assert end.value.code == 0
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    capsys.readouterr()
    other = ["--onnx", str(lookup), "--shape", "tokens=4", "--version", "2", "--beside"]
    with pytest.raises(SystemExit) as end:
        main(["export", *other, "--name", "m", "--output", str(root)])
    assert end.value.code == 2
    assert "version 2 has another input than the versions beside it" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_precision_that_was_not_exported_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], linear: Path
) -> None:
    root, scenario = tmp_path / "models", tmp_path / "precisions.yaml"
    scenario.write_text("model: linear\nsweep: {precision: [float32, int8], concurrency: 1}\n")

    def call(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(list(map(str, arguments)))
        return int(end.value.code or 0), capsys.readouterr().err

    plan = ("run", scenario, "--dry-run", "--models", root)
    assert call("export", "--onnx", linear, "--output", root)[0] == 0
    code, said = call(*plan)
    assert code == 2
    assert "no exported model linear_int8. Make it with harness export" in " ".join(said.split())
    remedy = f"--precision int8 --output {root} from the model that linear was made of"
    assert remedy.replace(" ", "") in "".join(said.split())
    # Under the variant's name, but not that.
    call("export", "--onnx", linear, "--name", "linear_int8", "--output", root)
    code, said = call(*plan)
    assert code == 2
    assert "linear_int8 was exported as float32, and the sweep asks for int8" in said
    int8 = ("--precision", "int8", "--max-accuracy-loss", 0.5)
    assert call("export", "--onnx", linear, *int8, "--output", root)[0] == 0
    assert call(*plan)[0] == 0
