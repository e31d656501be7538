from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.servers.backend import choose_backend, configuration_for

if TYPE_CHECKING:
    from pathlib import Path

ONNX = {"model.onnx", "model.py"}
FULL = {"onnxruntime", "openvino", "python", "pytorch", "tensorrt"}


@pytest.mark.parametrize("exported", ["onnxruntime", "python"])
@pytest.mark.parametrize(
    ("available", "chosen"),
    [(FULL, "onnxruntime"), ({"python"}, "python"), ({"python", "dali"}, "python")],
)
def test_an_onnx_model_goes_to_onnx_runtime_where_there_is_one(
    exported: str, available: set[str], chosen: str
) -> None:
    assert choose_backend(exported, available, ONNX) == chosen


def test_a_python_model_of_any_other_kind_stays_one() -> None:
    assert choose_backend("python", FULL, {"model.py"}) == "python"


def test_a_server_that_does_not_say_is_trusted() -> None:
    assert choose_backend("python", (), ONNX) == "python"
    assert choose_backend("tensorflow", (), {"model.savedmodel"}) == "tensorflow"


def test_tensorflow_is_served_where_the_image_has_it_and_only_there() -> None:
    files = {"model.savedmodel"}
    assert choose_backend("tensorflow", FULL | {"tensorflow"}, files) == "tensorflow"
    with pytest.raises(UsageError, match=r"no backend tensorflow.*up to 25\.02"):
        choose_backend("tensorflow", FULL, files)


def test_without_its_model_py_an_onnx_model_needs_onnx_runtime() -> None:
    with pytest.raises(UsageError, match="no backend onnxruntime, it has python"):
        choose_backend("onnxruntime", {"python"}, {"model.onnx"})


def test_a_configuration_changes_its_backend_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    for name in ONNX:
        (tmp_path / "1" / name).touch()
    config = {"name": "m", "backend": "python", "max_batch_size": 8}
    assert configuration_for(config, tmp_path, FULL) == config | {"backend": "onnxruntime"}
    assert configuration_for(config, tmp_path, ["python"]) == config
    platform = {"name": "m", "platform": "onnxruntime_onnx"}
    assert configuration_for(platform, tmp_path, ["python"]) == platform
