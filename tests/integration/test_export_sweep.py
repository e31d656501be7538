"""Models of a user's own, and variants of one network, in one sweep with every answer checked."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from tests import onnx_models

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Harness = Callable[..., subprocess.CompletedProcess[str]]

SCENARIO = """\
model: [cnn, cnn_int8, cnn_float16, lookup, unbatched]
sweep:
  batch_size: 1
  concurrency: 4
  protocol: [http, grpc]
measure: {window: 500ms, passes: 3}
slo: {p99: 5s, errors: 0}
"""


def test_models_of_every_kind_are_swept_and_checked(
    here: Harness, harness: Harness, trained: Path, tmp_path: Path
) -> None:
    root, scenario = tmp_path / "models", tmp_path / "models.yaml"
    here("export", "--source", trained, "--name", "cnn", "--output", root)
    for precision in ("int8", "float16"):
        here("export", "--source", trained, "--name", f"cnn_{precision}", "--precision", precision, "--max-accuracy-loss", 0.05, "--output", root)  # fmt: skip
    lookup = onnx_models.lookup(tmp_path / "lookup.onnx")
    shape = ("--shape", "tokens=7", "--range", f"tokens=0:{onnx_models.VOCABULARY}")
    here("export", "--onnx", lookup, *shape, "--output", root)
    unbatched = onnx_models.unbatched(tmp_path / "unbatched.onnx")
    here("export", "--onnx", unbatched, "--output", root)
    scenario.write_text(SCENARIO)
    # A busy machine may leave no point valid; whether every answer was right it does not change.
    done = harness("run", scenario, "--models", root, "--output", tmp_path / "reports", code=(0, 4))
    report = done.stdout.splitlines()[-1]
    folder = next((tmp_path / "reports").iterdir())
    assert report == str(folder / "index.html")
    with (folder / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    for row in rows:
        assert int(row["requests"]) > 50, row
        assert (row["errors"], row["wrong_answers"]) == ("0", "0"), row
