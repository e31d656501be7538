"""The real things that integration tests share: a trained and exported network, and the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Harness = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def harness() -> Harness:
    """Run the ``harness`` command as a user does; it must end with ``code``."""

    def call(
        *arguments: object, code: int = 0, cwd: Path | None = None, timeout_s: float = 240
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=timeout_s,
            env=os.environ | {"COLUMNS": "200"},
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    return call


@pytest.fixture(scope="session")
def trained(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the reference network, trained for two epochs."""
    folder = tmp_path_factory.mktemp("trained") / "cnn"
    harness("train", "--epochs", 2, "--output", folder)
    return folder


@pytest.fixture(scope="session")
def triton_models(
    harness: Harness, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model repository that holds the trained network as ``cnn``."""
    root = tmp_path_factory.mktemp("triton_models")
    harness("export", "--source", trained, "--name", "cnn", "--output", root)
    return root
