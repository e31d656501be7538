from __future__ import annotations

import os

import pytest

from harness.errors import UsageError
from harness.host import package_versions, require_cores


def test_cores_that_are_here_are_taken() -> None:
    require_cores(sorted(os.sched_getaffinity(0)), "server.cpus")
    require_cores((), "server.cpus")


def test_cores_that_are_not_here_are_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError) as caught:
        require_cores((min(os.sched_getaffinity(0)), 4094, 4095), "generator.cpus")
    said = str(caught.value)
    assert said.startswith("generator.cpus: no cores 4094, 4095 here. Choose from ")
    assert str(max(os.sched_getaffinity(0))) in said


def test_what_makes_and_runs_the_models_is_noted_with_its_version() -> None:
    versions = package_versions()
    assert {"keras", "onnx", "onnxruntime", "psutil", "pydantic", "scikit-learn"} <= versions.keys()
    assert list(versions) == sorted(versions)
