"""The embedded server's own environment: a real Triton and the NumPy that its stub needs.

:mod:`harness.servers.embedded.installation` prepares it. Its folder's name holds the Python version and a digest of
the pins, so that new pins make a new one. There are two sets of pins: with ONNX Runtime for processors, and with the
one for GPUs, which serves on both.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import EnvironmentFailedError
from harness.servers.embedded.interpreter import SUPPORTED
from harness.servers.home import home

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ServerEnvironment",
    "digest",
    "environment_folder",
    "environments",
    "find_environment",
    "pinned",
    "pins",
    "verified",
]

PINS = Path(__file__).with_name("environment.txt")
GPU_PINS = Path(__file__).with_name("environment-gpu.txt")
STAMP = "environment.json"
LAYOUT = 1  # of the folder; raise it when what is built from the same pins changes
REMEDY = "Prepare it with: harness server install"
# From the user's environment, only what a server may need: a stray PYTHONPATH or LD_PRELOAD would end up
# in every stub.
PASSED_ON = (
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
)


@dataclass(frozen=True)
class ServerEnvironment:
    """A verified environment.

    Attributes:
        path: its folder.
        python_version: such as ``3.11.7``.
        library_folder: where that Python's ``libpython`` lies.
        packages: versions by name.
    """

    path: Path
    python_version: str
    library_folder: Path
    packages: Mapping[str, str]

    @property
    def gpu(self) -> bool:
        """Whether its ONNX Runtime is the build for GPUs."""
        return "onnxruntime-gpu" in self.packages

    @property
    def site(self) -> Path:
        """Its ``site-packages``."""
        minor = ".".join(self.python_version.split(".")[:2])
        return self.path / "lib" / f"python{minor}" / "site-packages"

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.path / "bin" / "python"

    @property
    def tritonserver(self) -> Path:
        """The server's program."""
        return self.site / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """The backend directory, with the stub of this Python."""
        return self.path / "backends"

    @property
    def caches(self) -> Path:
        """The directory of response caches."""
        return self.site / "pytriton" / "tritonserver" / "caches"

    def variables(self) -> dict[str, str]:
        """The environment variables that the server is started with, and no others."""
        kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return kept | {
            "PATH": f"{self.path / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": f"{self.site / 'nvidia_pytriton.libs'}:{self.library_folder}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
            # ONNX Runtime would report to its maker, and leave a file in the temporary folder.
            "ORT_DISABLE_TELEMETRY": "1",
        }


def pins(*, gpu: bool = False) -> Path:
    """The file of the pinned versions and hashes, as pip reads it."""
    return GPU_PINS if gpu else PINS


def pinned(*, gpu: bool = False) -> dict[str, str]:
    """The pinned versions by package name."""
    lines = (line.split()[0] for line in pins(gpu=gpu).read_text().splitlines() if "==" in line)
    return {name: version for name, _, version in (line.partition("==") for line in lines)}


def digest(*, gpu: bool = False) -> str:
    """What the environments of these pins are known by."""
    return hashlib.sha256(pins(gpu=gpu).read_bytes() + bytes([LAYOUT])).hexdigest()[:12]


def environment_folder(minor: str, *, gpu: bool = False) -> Path:
    """Where the environment for Python ``minor``, such as ``3.11``, is."""
    return home() / f"server-{minor}-{digest(gpu=gpu)}"


def environments() -> list[Path]:
    """The folders of all installed environments, verified or not, of any pins."""
    return sorted(path for path in home().glob("server-*") if path.is_dir())


def find_environment() -> ServerEnvironment:
    """Return the installed environment: one for GPUs first, then one of this program's own Python version.

    Raises:
        EnvironmentFailedError: there is none, or it is damaged.
    """
    own = sys.version_info[:2]
    versions = sorted(SUPPORTED, key=lambda version: (version != own, version))
    for gpu, (major, minor) in product((True, False), versions):
        folder = environment_folder(f"{major}.{minor}", gpu=gpu)
        if folder.is_dir():
            return verified(folder)
    raise EnvironmentFailedError("the embedded server is not installed", remedy=REMEDY)


def verified(folder: Path) -> ServerEnvironment:
    """Check an environment quickly (its stamp, every file's size, its Python) and return it.

    Raises:
        EnvironmentFailedError: it is not as it was installed.
    """
    remedy = "Prepare it again with: harness server install"
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        environment = ServerEnvironment(
            path=folder,
            python_version=stamp["python_version"],
            library_folder=Path(stamp["library"]).parent,
            packages=stamp["packages"],
        )
        if stamp["digest"] != digest(gpu=environment.gpu):
            raise ValueError("of other pins")
        if not Path(stamp["library"]).is_file() or not environment.python.exists():
            raise ValueError(f"the Python it was made with is gone: {stamp['library']}")
        for name, size in stamp["files"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} has changed")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{error.filename} is missing" if isinstance(error, OSError) else str(error)
        raise EnvironmentFailedError(
            f"the server's environment is damaged ({reason})", where=str(folder), remedy=remedy
        ) from error
    return environment
