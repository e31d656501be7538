from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import EnvironmentFailedError
from harness.servers.embedded import environment, installation
from harness.servers.embedded.environment import (
    PINS,
    digest,
    environment_folder,
    environments,
    find_environment,
    pinned,
    pins,
    verified,
)
from harness.servers.embedded.installation import remove_environments
from harness.servers.home import home, locked


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_HARNESS_HOME", str(tmp_path / "home"))


def make(minor: str = "3.11", *, gpu: bool = False) -> Path:
    """What an installation leaves, without its hundreds of megabytes."""
    folder = environment_folder(minor, gpu=gpu)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "part").write_text("12345")
    library = folder.parent / "libpython.so"
    library.touch()
    stamp = {
        "digest": digest(gpu=gpu),
        "python_version": f"{minor}.7",
        "library": str(library),
        "packages": pinned(gpu=gpu),
        "files": {"part": 5},
    }
    (folder / "environment.json").write_text(json.dumps(stamp))
    return folder


@pytest.mark.parametrize("gpu", [False, True])
def test_pins_are_exact_and_hashed(gpu: bool) -> None:
    names = list(pinned(gpu=gpu))
    assert names[:2] == ["nvidia-pytriton", "numpy"]
    assert names[2] == ("onnxruntime-gpu" if gpu else "onnxruntime")
    assert pinned()["numpy"].startswith("1.")
    text = re.sub(r"#.*", "", pins(gpu=gpu).read_text())
    entries = text.replace("\\\n", " ").strip().splitlines()
    assert len(entries) == len(names)
    assert all(re.search(r"==\S+ +--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_for_gpus_only_onnxruntime_is_another_one_and_brings_its_cuda_of_one_version() -> None:
    shared = [text.split("onnxruntime")[0] for text in map(entries_of, (pins(), pins(gpu=True)))]
    assert shared[0] == shared[1]
    more = list(pinned(gpu=True))[3:]
    # What ONNX Runtime loads beforehand, and what cuFFT needs.
    parts = ["cublas", "cuda-nvrtc", "cuda-runtime", "cudnn", "cufft", "curand", "nvjitlink"]
    assert more == [f"nvidia-{part}-cu12" for part in parts]


def entries_of(path: Path) -> str:
    return re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)


def test_none_is_one_sentence_with_the_way_out() -> None:
    with pytest.raises(EnvironmentFailedError) as caught:
        find_environment()
    assert str(caught.value) == (
        "the embedded server is not installed. Prepare it with: harness server install."
    )


def test_that_of_this_programs_own_python_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    make("3.11")
    assert find_environment().python_version == "3.11.7"
    make("3.12")
    for own in ("3.11", "3.12"):
        major, minor = own.split(".")
        monkeypatch.setattr(environment.sys, "version_info", (int(major), int(minor), 0))
        assert find_environment().python_version == f"{own}.7"
    monkeypatch.setattr(environment.sys, "version_info", (3, 13, 0))
    assert find_environment().python_version == "3.11.7"


def test_one_for_gpus_is_told_apart_and_comes_first_whatever_its_python() -> None:
    plain = make("3.11")
    assert not find_environment().gpu
    found = make("3.12", gpu=True)
    assert found.parent == plain.parent
    assert find_environment().gpu
    assert find_environment().path == found
    assert verified(plain).gpu is False


def test_one_for_gpus_does_not_pass_for_the_other() -> None:
    plain, stamp = make(), "environment.json"
    text = make(gpu=True).joinpath(stamp).read_text()
    (plain / stamp).write_text(text.replace(digest(gpu=True), digest()))
    with pytest.raises(EnvironmentFailedError, match="of other pins"):
        verified(plain)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether what an installation would build is for GPUs, one each, and nothing is built."""
    built: list[bool] = []

    def build(*_: object, gpu: bool) -> None:
        built.append(gpu)
        raise EnvironmentFailedError("built")

    interpreter = installation.Interpreter(Path(sys.executable), (3, 11, 7), Path("/lib"))
    monkeypatch.setattr(installation, "inspect", lambda _: interpreter)
    monkeypatch.setattr(installation, "_check_room", lambda _: None)
    monkeypatch.setattr(installation, "_build", build)
    return built


@pytest.mark.parametrize("gpu", [False, True])
def test_what_is_there_is_used_and_the_other_one_is_built(builds: list[bool], gpu: bool) -> None:
    there = make(gpu=gpu)
    found = installation.install_environment(gpu=gpu, progress=lambda _: None)
    assert found.path == there
    assert builds == []
    if gpu:
        # What was prepared for GPUs serves on processors too.
        assert installation.install_environment(progress=lambda _: None).path == there
    else:
        with pytest.raises(EnvironmentFailedError, match="built"):
            installation.install_environment(gpu=True, progress=lambda _: None)
        assert builds == [True]


def test_what_was_prepared_for_gpus_is_repaired_for_gpus(builds: list[bool]) -> None:
    (make(gpu=True) / "part").unlink()
    with pytest.raises(EnvironmentFailedError, match="built"):
        installation.install_environment(progress=lambda _: None)
    assert builds == [True]


def test_what_it_is_started_with_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make()
    monkeypatch.setenv("PYTHONPATH", "/stray")
    monkeypatch.setenv("LD_PRELOAD", "/stray.so")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    variables = find_environment().variables()
    assert "stray" not in str(variables)
    assert "secret" not in str(variables)
    assert variables["CUDA_VISIBLE_DEVICES"] == "1"
    assert variables["PATH"].startswith(f"{folder}/bin:")
    assert variables["LD_LIBRARY_PATH"] == (
        f"{folder}/lib/python3.11/site-packages/nvidia_pytriton.libs:{folder.parent}"
    )


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "part").write_text("1234"), "part has changed"),
        (lambda folder: (folder / "part").unlink(), "part is missing"),
        (lambda folder: (folder / "environment.json").unlink(), "environment.json is missing"),
        (lambda folder: (folder / "environment.json").write_text("{"), "Expecting property"),
        (lambda folder: (folder / "environment.json").write_text("[]"), "damaged"),
        (lambda folder: (folder.parent / "libpython.so").unlink(), "the Python it was made with"),
        (lambda folder: (folder / "bin" / "python").unlink(), "the Python it was made with"),
    ],
)
def test_damage_is_found_before_a_start(damage: object, said: str) -> None:
    damage(make())  # type: ignore[operator]
    with pytest.raises(EnvironmentFailedError, match="environment is damaged") as caught:
        find_environment()
    assert said in str(caught.value)
    assert "harness server install" in str(caught.value)


def test_other_pins_make_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make()
    pins = tmp_path / "environment.txt"
    pins.write_text(PINS.read_text().replace("1.26.4", "1.26.5"))
    monkeypatch.setattr(environment, "PINS", pins)
    assert environment_folder("3.11") != before
    with pytest.raises(EnvironmentFailedError, match="not installed"):
        find_environment()


def test_removal_takes_every_environment_and_nothing_else() -> None:
    folders = [make("3.11"), make("3.12")]
    old = home() / "server-3.11-ofolderpins"
    old.mkdir()
    (home() / "running").mkdir()
    assert set(remove_environments(lambda _: None)) == {*folders, old}
    assert environments() == []
    assert {path.name for path in home().iterdir()} == {".lock", "running", "libpython.so"}


def test_removal_of_nothing_makes_no_folder() -> None:
    assert remove_environments(lambda _: None) == []
    assert not home().exists()


def test_the_home_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_HARNESS_HOME", "~/mine")
    assert home() == Path.home() / "mine"
    monkeypatch.delenv("TRITON_HARNESS_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert home() == Path("/var/cache/me/triton-harness")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert home() == Path.home() / ".cache" / "triton-harness"


def test_a_home_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRITON_HARNESS_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(EnvironmentFailedError, match="TRITON_HARNESS_HOME"), locked(home(), print):
        pass


def test_a_home_that_cannot_be_written_to_is_one_sentence() -> None:
    (home() / ".lock").mkdir(parents=True)
    with (
        pytest.raises(EnvironmentFailedError, match=r"home: .*Is a directory.*TRITON_HARNESS_HOME"),
        locked(home(), print),
    ):
        pass


def test_no_room_for_an_installation_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(installation, "inspect", lambda _: SimpleNamespace(minor="3.11"))
    monkeypatch.setattr(installation, "_check_room", lambda _: None)
    monkeypatch.setattr(installation.tempfile, "mkdtemp", full)
    with pytest.raises(EnvironmentFailedError, match=r"cannot be stored \(No space.*Free room"):
        installation.install_environment(progress=print)


def test_a_lock_is_waited_for_and_said_once(tmp_path: Path) -> None:
    order, held = [], threading.Event()

    def second() -> None:
        held.wait()
        with locked(tmp_path, lambda: order.append("waiting")):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with locked(tmp_path, lambda: order.append("never")):
        held.set()
        while "waiting" not in order:
            pass
        order.append("first")
    thread.join()
    assert order == ["waiting", "first", "second"]


@pytest.mark.parametrize(
    ("pip", "said"),
    [
        (
            "ERROR: Could not install: [Errno 28] No space left on device: '/x'",
            "no room on the disk",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS", "hash differs"),
        ("WARNING: NewConnectionError('refused')\nERROR: No matching", "cannot be reached"),
        ("noise\nERROR: first\nERROR: No matching distribution found\n", "pip: No matching dist"),
        ("something\nodd\n", "pip: odd"),
        ("", "it said nothing"),
    ],
)
def test_what_an_installer_says_becomes_one_sentence(pip: str, said: str) -> None:
    error = installation._installer_error("pip", pip)
    assert said in str(error)
    assert "\n" not in str(error)
    assert error.remedy


def test_no_room_is_known_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "NEEDED_BYTES", 10**18)
    monkeypatch.setattr(installation, "_build", lambda *_: pytest.fail("it began to build"))
    monkeypatch.setattr(
        installation,
        "inspect",
        lambda _: installation.Interpreter(Path(sys.executable), (3, 11, 7), Path("/lib")),
    )
    with pytest.raises(EnvironmentFailedError, match=r"needs 1000000000000 MB and \d+ MB are free"):
        installation.install_environment(progress=lambda _: None)
