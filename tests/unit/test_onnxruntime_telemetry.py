from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def test_onnxruntime_reports_to_nobody_and_leaves_no_file(tmp_path: Path) -> None:
    """Its telemetry makes a file in the temporary folder as soon as it is loaded."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if name not in {"ORT_DISABLE_TELEMETRY", "CI"}
    }
    command = [sys.executable, "-c", "import harness.repository.graph"]
    subprocess.run(command, env=kept | {"TMPDIR": str(tmp_path)}, check=True)
    assert not list(tmp_path.iterdir())
