"""Models that do what a test wants, as ``harness export`` would have left them, and runs of them."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np

from harness.reference import Reference, write_reference

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = 4
CONFIGURATION = """\
name: "{name}"
backend: "python"
max_batch_size: 64
input {{ name: "X" data_type: TYPE_FP32 dims: [ {classes} ] }}
output {{ name: "Y" data_type: TYPE_FP32 dims: [ {classes} ] }}
instance_group {{ count: 1 kind: KIND_CPU }}
parameters {{ key: "sleep_us" value {{ string_value: "{sleep_us}" }} }}
"""
MODEL = '''\
"""Y is X after a while, but for what ``answer`` makes of it."""

import json
import time

import numpy as np
import triton_python_backend_utils as pb_utils


def answer(number, x):
    return {answer}


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.sleep_s = int(parameters["sleep_us"]["string_value"]) / 1e6
        self.number = 0

    def execute(self, requests):
        if self.sleep_s:
            time.sleep(self.sleep_s)
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        self.number += 1
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        y = answer(self.number, x).astype(np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", y)])
'''


def write_model(root: Path, name: str, answer: str = "x", *, sleep_us: int = 0) -> None:
    """A model folder whose right answer to X is X, of which the most likely class is the largest.

    Args:
        root: the model repository.
        name: the model's name.
        answer: what it answers, an expression of ``x`` and the request's ``number``.
        sleep_us: how long an execution takes.
    """
    folder = root / name
    (folder / "1").mkdir(parents=True)
    text = CONFIGURATION.format(name=name, classes=CLASSES, sleep_us=sleep_us)
    (folder / "config.pbtxt").write_text(text)
    (folder / "1" / "model.py").write_text(MODEL.format(answer=answer))
    (folder / "export.json").write_text(json.dumps({"schema_version": 1, "backend": "python"}))
    values = np.random.default_rng(1).normal(size=(100, CLASSES)).astype(np.float32)
    write_reference(folder / "reference.npz", Reference({"X": values}, {"Y": values}))


def points_of(run: Path) -> list[dict[str, str]]:
    """The rows of a run's ``summary.csv``."""
    with (run / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))
