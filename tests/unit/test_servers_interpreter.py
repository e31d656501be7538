from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from harness.errors import EnvironmentFailedError
from harness.servers.embedded import interpreter
from harness.servers.embedded.interpreter import SUPPORTED, inspect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def make_python(tmp_path: Path) -> Callable[..., Path]:
    """A program that answers as a Python would that says of itself what it is told to."""

    def make(version: str, *, implementation: str = "CPython", library: bool = True) -> Path:
        major, minor, patch = map(int, version.split("."))
        if library:
            (tmp_path / f"libpython{major}.{minor}.so.1.0").touch()
        said = json.dumps(
            {
                "version": [major, minor, patch],
                "implementation": implementation,
                "base": "/usr",
                "libraries": ["/no/such/folder", str(tmp_path)],
            }
        )
        program = tmp_path / f"python{version}"
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
        return program

    return make


@pytest.mark.parametrize("version", ["3.11.0", "3.12.9"])
def test_a_python_that_will_do(make_python: Callable[..., Path], version: str) -> None:
    program = make_python(version)
    found = inspect(program)
    assert found.executable == program
    assert ".".join(map(str, found.version)) == version
    assert found.minor == version[:4]
    assert found.library.name == f"libpython{version[:4]}.so.1.0"


@pytest.mark.parametrize(
    ("version", "implementation", "said"),
    [
        ("3.13.0", "CPython", "NumPy below 2, which has no wheel for Python 3.13"),
        ("3.14.1", "CPython", "no Python stub for Python 3.14"),
        ("3.10.2", "CPython", "needs a newer Python than CPython 3.10"),
        ("3.11.2", "PyPy", "no Python stub for PyPy 3.11"),
    ],
)
def test_a_python_that_will_not_do_names_those_that_will(
    make_python: Callable[..., Path], version: str, implementation: str, said: str
) -> None:
    with pytest.raises(EnvironmentFailedError) as caught:
        inspect(make_python(version, implementation=implementation))
    assert said in str(caught.value)
    assert "Python 3.11 or 3.12" in str(caught.value)
    assert "harness server install --python python3.1" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_missing_shared_library_names_its_package(make_python: Callable[..., Path]) -> None:
    with pytest.raises(EnvironmentFailedError) as caught:
        inspect(make_python("3.12.1", library=False))
    assert "without its shared library libpython3.12.so.1.0" in str(caught.value)
    assert "package libpython3.12 (Debian, Ubuntu)" in str(caught.value)


@pytest.mark.parametrize(
    ("script", "said"), [("exit 3", "exit status 3"), ("echo hello", "Expecting value")]
)
def test_what_is_no_python(tmp_path: Path, script: str, said: str) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(EnvironmentFailedError, match="no Python that runs") as caught:
        inspect(program)
    assert said in str(caught.value)


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailedError, match="no such Python"):
        inspect(tmp_path / "python3.12")


@pytest.mark.parametrize(
    ("function", "answer", "said"),
    [
        ("platform.machine", "aarch64", "x86_64 Linux, and this is aarch64"),
        ("platform.system", "Darwin", "Darwin"),
        (
            "platform.libc_ver",
            ("glibc", "2.31"),
            "glibc 2.35 or newer, and this system has glibc 2.31",
        ),
        ("platform.libc_ver", ("", ""), "this system has another C library"),
        ("shutil.which", None, "bash, which is not installed"),
    ],
)
def test_a_machine_that_will_not_do(
    monkeypatch: pytest.MonkeyPatch, function: str, answer: object, said: str
) -> None:
    module, _, name = function.partition(".")
    monkeypatch.setattr(getattr(interpreter, module), name, lambda *_: answer)
    with pytest.raises(EnvironmentFailedError) as caught:
        inspect()
    assert said in str(caught.value)


@pytest.mark.skipif(sys.version_info[:2] not in SUPPORTED, reason="this Python will not do")
def test_this_very_python() -> None:
    found = inspect()
    assert found.version == sys.version_info[:3]
    assert found.library.is_file()
