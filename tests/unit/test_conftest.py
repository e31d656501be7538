"""The rule that in CI a skipped test has failed, and the markers of what is said of GPUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SUITE = """
import pytest

@pytest.fixture
def engine():
    pytest.skip("no engine")

def test_inside():
    pytest.skip("no engine")

def test_by_fixture(engine):
    pass

@pytest.mark.skipif(True, reason="no engine")
def test_by_mark():
    pass

@pytest.mark.gpu
def test_that_needs_a_gpu():
    pass

@pytest.mark.parametrize("case", [pytest.param(1, marks=pytest.mark.no_gpu)])
def test_that_needs_none(case):
    pass

@pytest.mark.xfail
def test_known_to_fail():
    assert False

def test_right():
    pass
"""


def outcomes(folder: Path, ci: str, *options: str) -> dict[str, int]:
    """Run the suite on its own; return how many tests ended how."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, folder],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"HARNESS_CI": ci},
        timeout=60,
    )
    last = done.stdout.strip().splitlines()[-1]
    return {word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) (\w+)", last)}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """On a machine without a GPU, whatever this one has."""
    text = CONFTEST.read_text("utf-8")
    assert text.count('"/dev/nvidiactl"') == 1
    text = text.replace('"/dev/nvidiactl"', repr(str(tmp_path / "nvidiactl")))
    (tmp_path / "conftest.py").write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu\n  no_gpu\n", encoding="utf-8")
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    return tmp_path


def test_skips_are_skips_on_a_desk(suite: Path) -> None:
    assert outcomes(suite, "0").items() >= {"passed": 2, "skipped": 4, "xfailed": 1}.items()


def test_skips_are_failures_in_ci_but_for_a_gpu(suite: Path) -> None:
    found = outcomes(suite, "1")
    assert found.items() >= {"passed": 2, "skipped": 1, "xfailed": 1}.items()
    assert found["failed"] + found["error"] == 3


@pytest.mark.parametrize("gpu", [False, True])
def test_what_is_said_of_gpus_runs_on_one_kind_of_machine_alone(suite: Path, gpu: bool) -> None:
    if gpu:
        (suite / "nvidiactl").touch()
    runs, skipped = ("needs_a_gpu", "needs_none") if gpu else ("needs_none", "needs_a_gpu")
    assert outcomes(suite, "1", "-k", runs) == {"passed": 1, "deselected": 6}
    assert outcomes(suite, "1", "-k", skipped) == {"skipped": 1, "deselected": 6}


def test_one_that_needs_no_gpu_may_not_be_skipped_where_there_is_none(suite: Path) -> None:
    text = 'import pytest\n@pytest.mark.no_gpu\ndef test_it():\n    pytest.skip("no engine")\n'
    (suite / "test_suite.py").write_text(text, encoding="utf-8")
    assert outcomes(suite, "1") == {"failed": 1}
    (suite / "nvidiactl").touch()
    assert outcomes(suite, "1") == {"skipped": 1}


def test_a_file_that_skips_itself_has_failed_in_ci(suite: Path) -> None:
    text = 'import pytest\npytest.skip("no engine", allow_module_level=True)\n'
    (suite / "test_suite.py").write_text(text, encoding="utf-8")
    assert outcomes(suite, "0")["skipped"] == 1
    assert outcomes(suite, "1")["error"] == 1
