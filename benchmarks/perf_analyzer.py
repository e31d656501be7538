"""NVIDIA's ``perf_analyzer`` where it can be had: from a wheel that is old enough for older systems.

The program wants two libraries under names that the embedded server's wheel has with a digest in them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from harness.servers.embedded.environment import find_environment

if TYPE_CHECKING:
    from pathlib import Path

WHEEL = "tritonclient==2.50.0"
MEMBER = "tritonclient-2.50.0.data/data/bin/perf_analyzer"
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


def prepared(folder: Path) -> tuple[Path, dict[str, str]] | None:
    """The program and the environment that it runs in; ``None`` where it cannot be had.

    Args:
        folder: where it is kept from one time to the next.
    """
    program = folder / "perf_analyzer"
    libraries = find_environment().site / "nvidia_pytriton.libs"
    if not program.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        try:
            subprocess.run([*pip, "--no-deps", "-d", str(folder), WHEEL], check=True, timeout=300)
            wheel = next(folder.glob("tritonclient-2.50.0-*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                program.write_bytes(archive.read(MEMBER))
        except (OSError, subprocess.SubprocessError, StopIteration, KeyError):
            return None
        program.chmod(0o755)
    for name, pattern in LIBRARIES.items():
        found = next(libraries.glob(pattern), None)
        if found is None:
            return None
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(found)
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{folder}:{libraries}"}
    said = subprocess.run(
        [str(program), "--version"], env=environment, capture_output=True, check=False, timeout=60
    )
    return (program, environment) if said.returncode == 0 else None
