"""Models for the Python backend that misbehave on purpose, one tensor in and the same out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
name: "NAME"
backend: "BACKEND"
max_batch_size: 64
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { count: 1 kind: KIND_CPU }
"""
# It takes as many MiB as its input says, and keeps them.
HUNGRY = """\
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.kept = bytearray({at_load_mib} << 20)

    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            self.kept += bytearray(int(x[0, 0]) << 20)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]))
        return answers
"""
HANGING = """\
import time

class TritonPythonModel:
    def initialize(self, args):
        while True:
            time.sleep(1)
"""
RAISING = """\
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("the weights are from another planet")
"""


def python_model(
    folder: Path, name: str, code: str, *, backend: str = "python", config: str = CONFIG
) -> Path:
    """Write a model below ``folder`` and return its own folder."""
    version = folder / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(code)
    text = config.replace("NAME", name).replace("BACKEND", backend)
    (folder / name / "config.pbtxt").write_text(text)
    return folder / name
