"""The load generator against models of a known time, from the command line, on a real Triton."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Harness = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.long
def test_the_generator_is_measured_for_each_protocol(
    harness: Harness, triton_models: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    for _ in range(5):
        done = harness(
            "calibrate", "--models", triton_models, "--users", 30, "--batch-size", 4,
            "--json", figures, code=(0, 4),
        )  # fmt: skip
        found = json.loads(figures.read_text())["models"]["cnn"]
        # A machine that stands still for half of a window of 0.6 s leaves something else in it.
        if all(row["proved"] and row["own_ms"] > 0 for row in found["workloads"]):
            break
    assert [row["protocol"] for row in found["workloads"]] == ["http", "grpc"]
    for row in found["workloads"]:
        assert row["batch_size"] == 4
        assert row["users"] == 30
        # 10 is what the trap of gRPC under gevent would leave; what is seen is never far above the truth.
        assert 0.95 * 30 <= row["in_flight"] < 40, row
        assert row["proved"]
        assert row["ceiling_rps"] > 1e3 / (row["null_ms_p50"] * row["ceiling_users"])
        assert 0 < row["own_ms"] < row["sleep_ms"] * 4
        assert row["client_cpu_ms"] > 0
    lines = done.stdout.splitlines()
    assert sum(line.lstrip().startswith(("HTTP, client", "gRPC, client")) for line in lines) == 2
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_calibrated_is_bad_input(harness: Harness, triton_models: Path) -> None:
    models = ("--models", triton_models)
    assert "max_batch_size" in harness("calibrate", *models, "--batch-size", 65, code=2).stderr
    assert "--protocol" in harness("calibrate", *models, "--protocol", "ftp", code=2).stderr
    assert "harness export" in harness("calibrate", *models, "--model", "no", code=2).stderr
