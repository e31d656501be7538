"""The server's environment is really installed: whole, once, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.servers.embedded.environment import find_environment
from tests.footprint import lives, wait_until

HARNESS = shutil.which("harness", path=str(Path(sys.executable).parent)) or "harness"


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRITON_HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path / "home"


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> str:
    """The Python of the environment that is installed on this machine."""
    with pytest.MonkeyPatch.context() as context:
        context.delenv("TRITON_HARNESS_HOME", raising=False)
        return str(find_environment().python.resolve())


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [HARNESS, "server", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    try:
        stdout, stderr = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == code, stdout + stderr
    return stdout, stderr


def pip_runs(parent: int) -> bool:
    for child in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just gone
            if "pip" in child.cmdline():
                return True
    return False


def test_it_is_installed_once_by_two_at_a_time_and_removed(own_home: Path, python: str) -> None:
    both = [start("install", "--python", python) for _ in range(2)]
    said = [end(process, 0) for process in both]
    assert all("The embedded server is ready, with Python" in stdout for stdout, _ in said)
    assert sorted("Waiting for another installation" in stderr for _, stderr in said) == [
        False,
        True,
    ]
    assert sum("Fetching nvidia-pytriton" in stderr for _, stderr in said) == 1
    (folder,) = own_home.glob("server-*")
    assert find_environment().path == folder

    stdout, stderr = end(start("install", "--python", python), 0)
    assert str(folder) in stdout
    assert "Fetching" not in stderr

    library = next(folder.rglob("libtriton_python.so"))
    library.write_bytes(b"cut off")
    stdout, _ = end(start("status"), 3)
    assert "environment is damaged" in stdout
    assert "libtriton_python.so has changed" in stdout

    stdout, _ = end(start("remove"), 0)
    assert f"Removed {folder}" in stdout
    assert [path.name for path in own_home.iterdir()] == [".lock"]
    end(start("status"), 3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_installation_that_is_cut_off_leaves_no_half(
    own_home: Path, python: str, number: int
) -> None:
    process = start("install", "--python", python)
    wait_until(lambda: pip_runs(process.pid), 120, "pip runs")
    time.sleep(0.3)
    children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert children
    assert list(own_home.glob(".building-*/pip.log"))
    process.send_signal(number)
    code = {signal.SIGKILL: -signal.SIGKILL}.get(signal.Signals(number), 130)
    end(process, code)
    wait_until(lambda: not any(map(lives, children)), 5)
    assert not list(own_home.glob("server-*"))
    if number == signal.SIGKILL:
        assert list(own_home.glob(".building-*"))
        # The next one removes it, whatever then becomes of itself.
        _, stderr = end(start("install", "--python", "/bin/false"), 3)
        assert "no Python that runs" in stderr
        environ = os.environ | UNREACHABLE
        cut_off = subprocess.Popen(
            [HARNESS, "server", "install", "--python", python],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        _, stderr = end(cut_off, 3)
        assert "cannot be fetched" in stderr
    assert not list(own_home.glob(".building-*"))


UNREACHABLE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_CONFIG_FILE": os.devnull,
}


def test_onnxruntime_reports_to_nobody_and_leaves_no_file_there_either(tmp_path: Path) -> None:
    environment = find_environment()
    command = [str(environment.python), "-c", "import onnxruntime"]
    variables = environment.variables() | {"TMPDIR": str(tmp_path)}
    subprocess.run(command, env=variables, check=True)
    assert not list(tmp_path.iterdir())
