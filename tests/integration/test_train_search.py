"""The default search of ``harness tune``, with two cores to itself as is promised of it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.trained import read_record

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Harness = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.alone, pytest.mark.long, pytest.mark.timeout(1200)]


def test_the_default_search_ends_in_ten_minutes_and_its_cnn_is_right_in_97_of_100(
    harness: Harness, tmp_path: Path
) -> None:
    """With the settings as they were found; one test of 360 digits says too little, so it is done on three."""
    started = time.monotonic()
    harness("tune", "--output", tmp_path / "tuning", timeout_s=1000)
    assert time.monotonic() - started <= 600
    record = json.loads((tmp_path / "tuning" / "tuning.json").read_text())
    networks = {each["settings"]["network"] for each in record["candidates"]}
    assert networks == {"cnn", "cnn_small", "cnn_wide", "gru"}
    best = tmp_path / "tuning" / "best-cnn.yaml"
    accuracies = []
    for seed in (7, 8, 9):
        folder = tmp_path / f"cnn-{seed}"
        harness("train", "--config", best, "--seed", seed, "--output", folder)
        model = read_record(folder)
        assert model.parameters == 93_322
        accuracies.append(model.metrics["test"]["accuracy"])
    assert np.mean(accuracies) >= 0.97, accuracies
