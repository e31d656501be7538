"""Preparing the embedded server's environment, and removing it.

It is built beside its place, verified by really starting its parts, and renamed. A lock lets one
installation at a time work; what a killed one left is removed by the next.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import processes
from harness.errors import EnvironmentFailedError
from harness.servers.embedded.environment import (
    STAMP,
    ServerEnvironment,
    digest,
    environment_folder,
    environments,
    pinned,
    pins,
    verified,
)
from harness.servers.embedded.interpreter import Interpreter, inspect
from harness.servers.home import home, locked, made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["install_environment", "remove_environments"]

NEEDED_BYTES = 700_000_000  # 300 MB installed, 100 MB of wheels, and some to unpack them
GPU_NEEDED_BYTES = 7_500_000_000  # 3.5 GB installed, 2 GB of wheels, and some to unpack them
INSTALL_TIMEOUT_S = 1800.0
BUILDING = ".building-"
ROOM = "Free room on the disk, or set TRITON_HARNESS_HOME to another folder"


def install_environment(
    *, python: Path | None = None, gpu: bool = False, progress: Callable[[str], None]
) -> ServerEnvironment:
    """Prepare the environment, or return it where it is there and whole.

    Args:
        python: the Python whose packages ``model.py`` may import; this program's own where ``None``.
        gpu: with ONNX Runtime for GPUs; one that was prepared so stays so, whatever is said here.
        progress: called with a line at a time.

    Raises:
        EnvironmentFailedError: this Python or machine will not do, no network, no room on the disk.
    """
    interpreter = inspect(python)
    with locked(made(home()), lambda: progress("Waiting for another installation to end")):
        for remnant in home().glob(f"{BUILDING}*"):
            shutil.rmtree(remnant, ignore_errors=True)
        gpu = gpu or environment_folder(interpreter.minor, gpu=True).is_dir()
        folder = environment_folder(interpreter.minor, gpu=gpu)
        if folder.is_dir():
            try:
                return verified(folder)
            except EnvironmentFailedError as error:
                progress(f"Preparing it again: {error.what}")
        _check_room(GPU_NEEDED_BYTES if gpu else NEEDED_BYTES)
        try:
            building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=home()))
        except OSError as error:
            raise _not_stored(error) from error
        try:
            _build(building, interpreter, progress, gpu=gpu)
            if folder.is_dir():
                shutil.rmtree(folder)
            building.rename(folder)
        except OSError as error:
            raise _not_stored(error) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return verified(folder)


def _not_stored(error: OSError) -> EnvironmentFailedError:
    return EnvironmentFailedError(
        f"the server's environment cannot be stored ({error.strerror or error})",
        where=str(home()),
        remedy=ROOM,
    )


def remove_environments(progress: Callable[[str], None]) -> list[Path]:
    """Remove every installed environment; return their folders."""
    if not home().is_dir():
        return []
    with locked(home(), lambda: progress("Waiting for an installation to end")):
        removed = environments()
        for folder in removed:
            doomed = folder.with_name(f"{BUILDING}{folder.name}")
            folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
    return removed


def _check_room(needed_bytes: int) -> None:
    free = shutil.disk_usage(home()).free
    if free < needed_bytes:
        raise EnvironmentFailedError(
            f"the server's environment needs {needed_bytes / 1e6:.0f} MB and {free / 1e6:.0f} MB are free",
            where=str(home()),
            remedy=ROOM,
        )


def _build(
    folder: Path, interpreter: Interpreter, progress: Callable[[str], None], *, gpu: bool
) -> None:
    progress(f"Making an environment for Python {interpreter.minor}")
    own_pip = importlib.util.find_spec("pip") is not None
    venv = [str(interpreter.executable), "-I", "-m", "venv", str(folder)]
    _finish([*venv, *(["--without-pip"] if own_pip else [])], folder, "venv", lambda _: None)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    if not own_pip:
        pip = [str(folder / "bin" / "python"), "-m", "pip"]
    names = ", ".join(f"{name} {version}" for name, version in pinned(gpu=gpu).items())
    progress(f"Fetching {names} (about {'2 GB' if gpu else '100 MB'})")
    install = ["install", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-compile"]
    quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--retries=2"]
    _finish([*pip, *install, *quiet, "-r", str(pins(gpu=gpu))], folder, "pip", progress)
    environment = ServerEnvironment(
        path=folder,
        python_version=".".join(map(str, interpreter.version)),
        library_folder=interpreter.library.parent,
        packages=pinned(gpu=gpu),
    )
    wheel = environment.site / "pytriton" / "tritonserver"
    stub = wheel / "python_backend_stubs" / interpreter.minor / "triton_python_backend_stub"
    if not stub.is_file():
        raise EnvironmentFailedError(
            f"the server has no Python stub for Python {interpreter.minor}", where=str(stub)
        )
    shutil.copytree(wheel / "backends", environment.backends)
    shutil.copy(stub, environment.backends / "python")
    progress("Verifying it")
    _try_out(environment)
    stamp: dict[str, Any] = {
        "digest": digest(gpu=gpu),
        "python_version": environment.python_version,
        "library": str(interpreter.library),
        "packages": environment.packages,
        "files": dict(_sizes(folder)),
    }
    (folder / STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix not in {".pyc", ".log"}:
            yield str(path.relative_to(folder)), path.stat().st_size


def _finish(command: list[str], folder: Path, name: str, progress: Callable[[str], None]) -> None:
    """Run an installer to its end, under a guard, passing on what it says it fetches."""
    log = folder / f"{name}.log"
    child = processes.start(command, env=os.environ, log=log, cwd=folder)
    deadline = time.monotonic() + INSTALL_TIMEOUT_S
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            while True:
                status = child.poll()
                for line in lines:
                    if line.lstrip().startswith("Downloading "):
                        progress(line.strip().rstrip("."))
                if status is not None:
                    break
                if time.monotonic() > deadline:
                    raise EnvironmentFailedError(
                        f"{name} has not ended within {INSTALL_TIMEOUT_S / 60:.0f} minutes",
                        remedy="Try again; what was fetched is kept",
                    )
                time.sleep(0.1)
    finally:
        child.kill()
    if status != 0:
        raise _installer_error(name, log.read_text(encoding="utf-8", errors="replace"))


def _installer_error(name: str, said: str) -> EnvironmentFailedError:
    """Turn what an installer said into one sentence."""
    if "No space left on device" in said:
        return EnvironmentFailedError(
            "no room on the disk for the server's environment",
            where=str(home()),
            remedy="Free room, or set TRITON_HARNESS_HOME (and TMPDIR) to another disk",
        )
    if "DO NOT MATCH THE HASHES" in said:
        return EnvironmentFailedError(
            "a package that was fetched for the server is not the pinned one: its hash differs",
            remedy="Ask whoever runs your package index",
        )
    unreachable = (
        "NewConnectionError",
        "ConnectTimeout",
        "ProxyError",
        "Temporary failure in name",
    )
    if any(mark in said for mark in unreachable):
        return EnvironmentFailedError(
            "the server's packages cannot be fetched: the package index cannot be reached",
            remedy="Check the network, or pip's configuration (pip config list), and try again",
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
    reason = errors[-1].removeprefix("ERROR:").strip() if errors else "it said nothing"
    return EnvironmentFailedError(
        f"the server's environment cannot be made ({name}: {reason})",
        remedy="Check the network, or pip's configuration (pip config list), and try again",
    )


def _try_out(environment: ServerEnvironment) -> None:
    """Start the parts that would fail later: packages, server, stub.

    Raises:
        EnvironmentFailedError: one of them does not run.
    """
    imports = "import numpy, onnxruntime; assert numpy.__version__ < '2'; "
    if environment.gpu:
        imports += "assert 'CUDAExecutionProvider' in onnxruntime.get_available_providers(); "
    imports += "print('works')"
    stub = environment.backends / "python" / "triton_python_backend_stub"
    trials = (
        ("its packages", [str(environment.python), "-c", imports], "works"),
        ("the server", [str(environment.tritonserver), "--help"], "Usage: tritonserver"),
        ("the Python stub", [str(stub)], "Expected 9 arguments"),
    )
    for name, command, expected in trials:
        try:
            said = subprocess.run(
                command,
                env=environment.variables(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=120,
                check=False,
            ).stdout.decode(errors="replace")
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
        if expected not in said:
            last = next((line for line in reversed(said.splitlines()) if line.strip()), "silence")
            raise EnvironmentFailedError(
                f"in the server's environment {name} cannot be started ({last.strip()})",
                remedy="Install what the message names, then: harness server install",
            )
