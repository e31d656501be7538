"""What a run notes down about the machine and the software that made it."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["git_revision", "host_facts", "package_versions", "require_cores"]

PACKAGES = (
    "gevent",
    "geventhttpclient",
    "grpcio",
    "keras",
    "locust",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "prometheus-client",
    "psutil",
    "pyarrow",
    "pydantic",
    "scikit-learn",
    "scipy",
    "tensorflow",
    "tf2onnx",
    "tritonclient",
)


def host_facts() -> dict[str, Any]:
    """The host as JSON: hostname, platform, CPU model, cores this process may use, memory, load."""
    return {
        "hostname": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu_model": _cpu_model(),
        "cores": len(psutil.Process().cpu_affinity()),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average_1m": round(psutil.getloadavg()[0], 2),
    }


def require_cores(cpus: Sequence[int], where: str) -> None:
    """Refuse cores that this process may not use.

    Raises:
        UsageError: one is not there, with those that are.
    """
    usable = os.sched_getaffinity(0)
    if missing := sorted(set(cpus) - usable):
        noun = "core" if len(missing) == 1 else "cores"
        raise UsageError(
            f"no {noun} {', '.join(map(str, missing))} here",
            where=where,
            remedy=f"Choose from {', '.join(map(str, sorted(usable)))}, or leave it out",
        )


def _cpu_model() -> str:
    """The processor's name; ``platform.processor()`` is empty on most Linux systems."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that can change a figure."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_revision(folder: Path) -> str | None:
    """The revision ``folder`` is at, with ``+`` where files differ from it; ``None`` outside of git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments],  # noqa: S607 - git is found on the PATH
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    revision = git("rev-parse", "HEAD")
    if revision is None:
        return None
    return revision + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
