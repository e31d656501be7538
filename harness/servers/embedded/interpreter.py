"""The Python that the embedded server's models run in: whether it will do, asked before installing."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EnvironmentFailedError

__all__ = ["SUPPORTED", "Interpreter", "inspect"]

SUPPORTED = ((3, 11), (3, 12))
OLDEST_GLIBC = (2, 35)
ASK = """
import json, platform, sys, sysconfig
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "implementation": platform.python_implementation(),
    "base": sys.base_prefix,
    "libraries": [d for d in (
        sysconfig.get_config_var("LIBDIR") or "",
        "/".join((sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("MULTIARCH") or "")),
        sys.base_prefix + "/lib", sys.base_prefix + "/lib64") if d],
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that the stub of the Python backend can be linked to.

    Attributes:
        executable: the program.
        version: such as (3, 11, 7).
        library: its ``libpython3.X.so.1.0``.
    """

    executable: Path
    version: tuple[int, int, int]
    library: Path

    @property
    def minor(self) -> str:
        """``major.minor``, such as ``3.11``."""
        return f"{self.version[0]}.{self.version[1]}"


def inspect(python: Path | None = None) -> Interpreter:
    """Ask ``python`` (default: the one running this) what it is, and whether the server can use it.

    Raises:
        EnvironmentFailedError: it cannot, with the one to use instead.
    """
    _check_machine()
    executable = _found(python)
    try:
        answer = subprocess.run(
            [str(executable), "-I", "-c", ASK],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        facts = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, json.JSONDecodeError) as error:
        raise EnvironmentFailedError(
            f"this is no Python that runs ({error})",
            where=str(executable),
            remedy=_remedy(),
        ) from error
    major, minor, patch = facts["version"]
    _check_version(executable, (major, minor), facts["implementation"])
    name = f"libpython{major}.{minor}.so.1.0"
    for folder in facts["libraries"]:
        library = Path(folder) / name
        if library.is_file():
            return Interpreter(executable, (major, minor, patch), library.resolve())
    raise EnvironmentFailedError(
        f"this Python comes without its shared library {name}, which the server's Python stub needs",
        where=str(executable),
        remedy=(
            f"Install the package libpython{major}.{minor} (Debian, Ubuntu) or python{major}.{minor}-libs"
            " (Fedora, RHEL), or use a Python built with --enable-shared:"
            " harness server install --python PATH"
        ),
    )


def _found(python: Path | None) -> Path:
    if python is None:
        return Path(sys.executable)
    found = shutil.which(str(python))
    if found is None:
        raise EnvironmentFailedError(
            "no such Python", where=str(python), remedy="Give a path or a name such as python3.12"
        )
    return Path(found).absolute()


def _check_machine() -> None:
    """Refuse machines that the server's wheel is not built for."""
    remedy = "Run it on such a machine, or measure a server that runs elsewhere"
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise EnvironmentFailedError(
            f"the embedded server runs on x86_64 Linux, and this is {machine} {system}",
            remedy=remedy,
        )
    library, version = platform.libc_ver()
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if library != "glibc" or found < OLDEST_GLIBC:
        raise EnvironmentFailedError(
            f"the embedded server needs glibc {OLDEST_GLIBC[0]}.{OLDEST_GLIBC[1]} or newer, and this"
            f" system has {library or 'another C library'} {version}".rstrip(),
            remedy=remedy,
        )
    if shutil.which("bash") is None:
        raise EnvironmentFailedError(
            "the server starts its Python stubs with bash, which is not installed",
            remedy="Install the package bash",
        )


def _check_version(executable: Path, version: tuple[int, int], implementation: str) -> None:
    if implementation == "CPython" and version in SUPPORTED:
        return
    name = f"{implementation} {version[0]}.{version[1]}"
    if implementation != "CPython":
        reason = f"the server has no Python stub for {name}"
    elif version == (3, 13):
        reason = "the server's Python stub needs NumPy below 2, which has no wheel for Python 3.13"
    elif version > SUPPORTED[-1]:
        reason = f"the server has no Python stub for Python {version[0]}.{version[1]}"
    else:
        reason = f"ONNX Runtime, which the server's models use, needs a newer Python than {name}"
    raise EnvironmentFailedError(reason, where=str(executable), remedy=_remedy())


def _remedy() -> str:
    """Name the Python to use, by preference one that is there."""
    names = [f"python{major}.{minor}" for major, minor in reversed(SUPPORTED)]
    best = next((name for name in names if shutil.which(name)), names[0])
    return (
        f"Let the server use Python 3.11 or 3.12, everything else may stay as it is:"
        f" harness server install --python {best}"
    )
