from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from harness.errors import EnvironmentFailedError, UsageError
from harness.servers import leftovers
from harness.servers.staging import staged

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRITON_HARNESS_HOME", str(tmp_path / "home"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "m"
    for version in ("1", "10", "2"):
        (folder / version / "__pycache__").mkdir(parents=True)
        (folder / version / "model.py").write_text(f"# {version}")
        (folder / version / "__pycache__" / "model.pyc").touch()
    (folder / "notes").mkdir()
    (folder / "reference.npz").touch()
    (folder / "config.pbtxt").write_text('name: "m"')
    (tmp_path / "weights").write_text("far away")
    (folder / "1" / "weights").symlink_to(tmp_path / "weights")
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_what_the_server_needs_is_copied_and_cannot_be_written(model: Path) -> None:
    with staged({"m": model}, "run") as repository:
        versions = {f"m/{version}/model.py" for version in ("1", "2", "10")}
        assert files(repository) == versions | {"m/1/weights", "m/config.pbtxt"}
        assert not (repository / "m" / "1" / "weights").is_symlink()
        assert (repository / "m" / "1" / "weights").read_text() == "far away"
        modes = {path.stat().st_mode & 0o777 for path in [repository, *repository.rglob("*")]}
        assert modes == {0o555, 0o444}
        assert repository.stat().st_uid == os.getuid()
        assert repository.name.startswith("triton-harness-run-")
    assert not repository.exists()
    assert (model / "1" / "weights").is_symlink()
    assert not list((leftovers.home() / "running").iterdir())


def test_it_is_removed_after_an_error_too(model: Path) -> None:
    with pytest.raises(ValueError, match="mine"), staged({"m": model}, "run") as repository:
        raise ValueError("mine")
    assert not repository.exists()


@pytest.mark.parametrize("name", ["../m", "a/b", "", ".", "..", "-m", "a b", "a\n", "ü"])
def test_a_name_cannot_leave_its_folder(model: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no model name"), staged({name: model}, "run"):
        pass


@pytest.mark.parametrize("run_id", ["../run", "", "a/b", "a b", "x" * 101])
def test_a_run_id_cannot_leave_its_folder(model: Path, run_id: str) -> None:
    with pytest.raises(UsageError, match="is no run id"), staged({"m": model}, run_id):
        pass


def test_what_is_no_model_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with (
        pytest.raises(UsageError, match=r"empty: there is no config\.pbtxt"),
        staged({"m": tmp_path / "empty"}, "run"),
    ):
        pass
    (tmp_path / "empty" / "config.pbtxt").touch()
    with (
        pytest.raises(UsageError, match="no version folder"),
        staged({"m": tmp_path / "empty"}, "run"),
    ):
        pass
    assert not list((tmp_path / "tmp").iterdir())


def test_a_link_to_nothing_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").unlink()
    with pytest.raises(UsageError, match="weights"), staged({"m": model}, "run"):
        pass
    assert not list((tmp_path / "tmp").iterdir())


def test_no_temporary_folder_is_one_sentence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nosuch"))
    with (
        pytest.raises(EnvironmentFailedError, match="nosuch: no temporary folder can be made"),
        staged({"m": model}, "run"),
    ):
        pass
