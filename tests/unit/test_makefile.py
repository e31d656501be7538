"""What ``make`` does with the Pythons that it finds: which it takes, what it leaves out, and what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Python, but for the version that it says.
PYTHON = """\
#!/bin/sh
exec '{real}' -c 'import sys; sys.version_info = {version}; exec(sys.argv[1])' "$2"
"""
NEEDS = "needs Python 3.11 or 3.12"


def command(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def python(path: Path, minor: int) -> None:
    command(path, PYTHON.format(real=sys.executable, version=(3, minor)))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make looks at, with nothing made yet, and beside it a folder of commands: the whole PATH."""
    folder = tmp_path / "checkout"
    for inner in ("harness/models", "harness/repository"):
        (folder / inner).mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    (tmp_path / "bin").mkdir()
    find = shutil.which("find")
    assert find is not None
    (tmp_path / "bin" / "find").symlink_to(find)
    return folder


@pytest.fixture
def set_up(checkout: Path) -> Path:
    """The same with an environment of a Python 3.13, whose commands say how they are called."""
    python(checkout / ".venv/bin/python", 13)
    for name in ("harness", "pytest"):
        command(checkout / ".venv/bin" / name, f'#!/bin/sh\necho {name} "$@"\n')
    for stamp in (".demo", ".dev"):
        (checkout / ".venv" / stamp).touch()
    return checkout


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("make")
    assert tool is not None
    # Of a make that runs these tests, neither its flags nor the Pythons that it was told to take.
    ours = re.compile(r"MAKE.*|MFLAGS|(SERVER_)?PYTHON")
    kept = {name: value for name, value in os.environ.items() if not ours.fullmatch(name)}
    return subprocess.run(
        [tool, *words],
        cwd=checkout,
        env=kept | {"PATH": str(checkout.parent / "bin"), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_demo_without_a_python_for_the_server_is_one_sentence(checkout: Path) -> None:
    python(checkout.parent / "bin/python3.13", 13)
    before = files(checkout)
    done = make(checkout, "demo")
    said, by_make = done.stderr.splitlines()
    assert said == (
        f"The embedded server {NEEDS}: install one of them beside python3.13,"
        " or say make SERVER_PYTHON=/path/to/python3.12."
    )
    assert by_make.endswith("server-python] Error 2")
    assert (done.returncode, done.stdout) == (2, "")
    assert files(checkout) == before


@pytest.mark.parametrize("goal", ["demo", "test", "lint"])
def test_no_python_at_all_is_one_sentence(checkout: Path, goal: str) -> None:
    python(checkout.parent / "bin/python3", 10)
    before = files(checkout)
    done = make(checkout, goal)
    said, by_make = done.stderr.splitlines()
    assert said == (
        "Python will not do: the harness needs Python 3.11, 3.12 or 3.13 with venv (Debian: apt-get"
        " install python3-venv; elsewhere: make PYTHON=/path/to/python3.12)."
    )
    assert by_make.endswith("python] Error 2")
    assert (done.returncode, done.stdout) == (2, "")
    assert files(checkout) == before


@pytest.mark.parametrize(("goal", "mark"), [("test", "-m not long"), ("test-long", "-m long")])
def test_without_a_python_for_the_server_the_tests_are_those_that_start_none(
    set_up: Path, goal: str, mark: str
) -> None:
    done = make(set_up, goal)
    assert done.returncode == 0, done.stderr
    (ran,) = done.stdout.splitlines()
    assert ran.startswith(f"pytest {mark} and not alone ")
    assert ran.split()[-3:] == [
        "tests/unit",
        "tests/integration/test_train.py",
        "tests/integration/test_train_tuning.py",
    ]
    (said,) = done.stderr.splitlines()
    assert said == (
        f"Left out: all other integration tests, as the embedded server {NEEDS}"
        f" (make {goal} SERVER_PYTHON=/path/to/python3.12 runs them too)."
    )


@pytest.mark.parametrize(("goal", "mark"), [("test", "-m not long"), ("test-long", "-m long")])
def test_with_one_beside_it_nothing_is_left_out(set_up: Path, goal: str, mark: str) -> None:
    python(set_up.parent / "bin/python3.12", 12)
    done = make(set_up, goal)
    assert (done.returncode, done.stderr) == (0, "")
    server, *ran = done.stdout.splitlines()
    assert server == "harness server install --python python3.12"
    shared, alone = ran
    assert shared.startswith(f"pytest {mark} and not alone ")
    assert alone.startswith(f"pytest {mark} and alone ")
    assert [line.split()[-1] for line in ran] == ["tests", "tests"]
    assert ("--numprocesses" in shared, "--numprocesses" in alone) == (True, False)


def test_a_python_that_is_asked_for_by_name_is_obeyed_or_refused(checkout: Path) -> None:
    for minor in (10, 12, 13):
        python(checkout.parent / f"bin/python3.{minor}", minor)
    assert make(checkout, "python").stdout == "python3.12\n"
    assert make(checkout, "python", "PYTHON=python3.13").stdout == "python3.13\n"
    refused = make(checkout, "python", "PYTHON=python3.10")
    assert refused.returncode == 2
    assert refused.stderr.startswith("python3.10 will not do: ")
