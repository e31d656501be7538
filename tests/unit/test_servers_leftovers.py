from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.servers import leftovers
from harness.servers.leftovers import claimed, reap, temporary_folder
from harness.servers.owner import identity
from tests.footprint import lives, wait_until

OWNER = """
import os, subprocess, sys, time
from pathlib import Path
from harness.servers.leftovers import claimed, temporary_folder
prefix, work = sys.argv[1], sys.argv[2]
with temporary_folder("orphan") as folder, claimed("orphan", shm_prefix=prefix) as claim:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").touch()
    os.chmod(folder / "sub", 0o555)
    Path(f"/dev/shm/{prefix}region").touch()
    child = subprocess.Popen(["sleep", "77"], start_new_session=True)
    claim.add_child(child.pid)
    print(folder, child.pid, flush=True)
    time.sleep(60 if work == "hang" else 0)
    child.kill()
    Path(f"/dev/shm/{prefix}region").unlink()
"""


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # What other servers of this machine have left is not to be removed, and not counted.
    monkeypatch.setattr(leftovers, "BACKEND_FOLDERS", tmp_path)


@pytest.fixture
def prefix() -> str:
    return f"triton-harness-orphan-{os.getpid()}-"


def owner(prefix: str, work: str) -> tuple[subprocess.Popen[str], Path, int]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, prefix, work], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    folder, child = process.stdout.readline().split()
    process.stdout.close()
    return process, Path(folder), int(child)


def records() -> list[Path]:
    return list((leftovers.home() / "running").glob("*.json"))


def test_what_a_killed_owner_left_is_reaped(prefix: str) -> None:
    process, folder, child = owner(prefix, "hang")
    region = Path(f"/dev/shm/{prefix}region")
    try:
        assert reap() == []
        assert folder.exists()
        assert region.exists()
        assert lives(child)
        assert len(records()) == 2
        process.kill()
        process.wait()
        done = reap()
        assert len([line for line in done if "orphan" in line]) == 3
        wait_until(lambda: not lives(child))
        assert not folder.exists()
        assert not region.exists()
        assert records() == []
        assert reap() == []
    finally:
        process.kill()
        process.wait()
        region.unlink(missing_ok=True)


def test_an_owner_that_ends_leaves_no_record(prefix: str) -> None:
    process, folder, child = owner(prefix, "end")
    assert process.wait(60) == 0
    assert not folder.exists()
    wait_until(lambda: not lives(child))  # it was killed a moment ago
    assert records() == []


def orphan(**changes: object) -> Path:
    """A record whose owner is long dead."""
    record = {
        "run_id": "x",
        **identity(),
        "owner": [os.getpid(), 1.0],
        "children": [],
        "container": None,
        "shm_prefix": None,
        "folder": None,
    }
    path = leftovers.made(leftovers.home() / "running") / "x.json"
    path.write_text(json.dumps(record | changes))
    return path


def test_a_number_that_another_process_was_given_is_let_alone() -> None:
    with subprocess.Popen(["sleep", "78"], start_new_session=True) as stranger:
        created = psutil.Process(stranger.pid).create_time()
        path = orphan(children=[[stranger.pid, created - 100]])
        reap()
        assert lives(stranger.pid)
        assert not path.exists()
        stranger.kill()


@pytest.mark.parametrize("prefix", ["", "psm_", "../"])
def test_shared_memory_that_is_not_ours_is_let_alone(prefix: str) -> None:
    region = Path(f"/dev/shm/psm_{os.getpid()}")
    region.touch()
    try:
        orphan(shm_prefix=prefix)
        reap()
        assert region.exists()
    finally:
        region.unlink()


def test_a_folder_that_is_not_ours_is_let_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    elsewhere = tmp_path / "deep" / "triton-harness-x"
    target, link = tmp_path / "target", tmp_path / "triton-harness-link"
    for folder in (theirs, elsewhere, target):
        folder.mkdir(parents=True)
    link.symlink_to(target)
    for folder in (theirs, elsewhere, link):
        orphan(folder=str(folder))
        reap()
    assert theirs.exists()
    assert elsewhere.exists()
    assert target.exists()


def test_an_owner_of_another_container_counts_as_alive() -> None:
    path = orphan(namespace="pid:[1]")
    reap()
    assert path.exists()


def test_after_a_restart_of_the_machine_no_process_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "triton-harness-old"
    folder.mkdir()
    with subprocess.Popen(["sleep", "79"], start_new_session=True) as stranger:
        created = psutil.Process(stranger.pid).create_time()
        path = orphan(boot="other", children=[[stranger.pid, created]], folder=str(folder))
        reap()
        assert lives(stranger.pid)
        assert not folder.exists()
        assert not path.exists()
        stranger.kill()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"boot": 1', '{"boot": "x", "owner": 5}'])
def test_a_damaged_record_breaks_nothing(text: str) -> None:
    orphan().write_text(text)
    reap()


def test_a_clean_up_that_was_interrupted_stays_on_record(tmp_path: Path) -> None:
    folder = tmp_path / "triton-harness-kept"
    folder.mkdir()
    with claimed("run", folder=folder):
        pass
    assert len(records()) == 1


def test_an_interrupted_block_leaves_nothing() -> None:
    with pytest.raises(KeyboardInterrupt), temporary_folder("run") as folder:
        raise KeyboardInterrupt
    assert not folder.exists()
    assert records() == []


def test_folders_of_the_python_backend(tmp_path: Path) -> None:
    empty, used = tmp_path / "python_env_a", tmp_path / "python_env_b"
    empty.mkdir()
    used.mkdir()
    (used / "file").touch()
    # A program named as the server is, alive since before the folder was made anew below.
    program = tmp_path / "tritonserver"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "80"]) as server:
        wait_until(lambda: psutil.Process(server.pid).name() == "tritonserver")
        empty.rmdir()
        empty.mkdir()
        assert leftovers.remove_backend_folders() == []
        server.kill()
    if not any(p.info["name"] == "tritonserver" for p in psutil.process_iter(["name"])):
        assert leftovers.remove_backend_folders() == [f"removed {empty}"]
        assert not empty.exists()
    assert used.exists()
