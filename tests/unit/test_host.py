from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from harness.errors import UsageError
from harness.host import git_revision, host_facts, package_versions, require_cores


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, out of reach of the settings of whoever runs this."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "repository"
    (folder / "harness").mkdir(parents=True)
    (folder / "harness" / "host.py").write_text("1\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "All there is")
    return folder


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_cores_that_are_here_are_taken() -> None:
    require_cores(sorted(os.sched_getaffinity(0)), "server.cpus")
    require_cores((), "server.cpus")


def test_cores_that_are_not_here_are_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError) as caught:
        require_cores((min(os.sched_getaffinity(0)), 4094, 4095), "generator.cpus")
    said = str(caught.value)
    assert said.startswith("generator.cpus: no cores 4094, 4095 here. Choose from ")
    assert str(max(os.sched_getaffinity(0))) in said


def test_what_makes_and_runs_the_models_is_noted_with_its_version() -> None:
    versions = package_versions()
    assert {"keras", "onnx", "onnxruntime", "psutil", "pydantic", "scikit-learn"} <= versions.keys()
    assert list(versions) == sorted(versions)


def test_the_host_is_noted_as_the_kernel_describes_it() -> None:
    facts = host_facts()
    (model, *_) = re.findall(
        r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
    )
    (memory_kib,) = re.findall(
        r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE
    )
    assert facts["cpu_model"] == model.strip()
    assert facts["memory_bytes"] == int(memory_kib) * 1024
    assert facts["hostname"] == os.uname().nodename
    assert os.uname().release in facts["platform"]


def test_cores_are_those_that_this_process_may_use() -> None:
    process = psutil.Process()
    usable = process.cpu_affinity()
    assert host_facts()["cores"] == len(usable)
    try:
        process.cpu_affinity(usable[:1])
        assert host_facts()["cores"] == 1
    finally:
        process.cpu_affinity(usable)


def test_the_revision_is_the_commit_with_a_plus_where_a_file_differs(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert git_revision(repository) == git_revision(repository / "harness") == commit
    (repository / "notes.txt").write_text("of no commit, so nothing that the revision tells of\n")
    assert git_revision(repository) == commit
    (repository / "harness" / "host.py").write_text("2\n")
    assert git_revision(repository / "harness") == f"{commit}+"
    git(repository, "add", "harness")
    assert git_revision(repository) == f"{commit}+"
    git(repository, "commit", "--quiet", "--message", "Another")
    assert git_revision(repository) == git(repository, "rev-parse", "HEAD") != commit


def test_outside_of_git_and_without_it_there_is_no_revision(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = repository.parent / "outside"
    outside.mkdir()
    assert git_revision(outside) is None
    git(outside, "init", "--quiet")
    assert git_revision(outside) is None  # nothing is committed yet
    monkeypatch.setenv("PATH", str(outside))
    assert git_revision(repository) is None
