"""The real things that integration tests share: a trained and exported network, and the command."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands import MEASURE, RunCommand, run_command, scenario_text
from tests.containers import Box, built_image, connected, own_box
from tests.servers import make_home
from tests.somebody import ADMIN, Somebody, somebody

if TYPE_CHECKING:
    from docker import DockerClient

Harness = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def harness() -> Harness:
    """Run the ``harness`` command as a user does; it must end with ``code``, or one of several.

    A run may end with 4 where nothing is wrong but the machine: no point is valid while others keep the
    processor busy.
    """

    def call(
        *arguments: object,
        code: int | tuple[int, ...] = 0,
        cwd: Path | None = None,
        timeout_s: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=timeout_s,
            env=os.environ | {"COLUMNS": "200"},
        )
        allowed = code if isinstance(code, tuple) else (code,)
        assert done.returncode in allowed, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    return call


@pytest.fixture(scope="session")
def here() -> Harness:
    """Run the same command within this process, for tests that would otherwise load TensorFlow anew each.

    What a command does to its process (Ctrl-C, a full disk, a missing library) is shown by ``harness``.
    """

    def call(
        *arguments: object, code: int = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        from harness.cli import main

        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        hook = sys.unraisablehook
        words = list(map(str, arguments))
        stdout, stderr = io.StringIO(), io.StringIO()
        try:
            with (
                contextlib.chdir(cwd or Path.cwd()),
                contextlib.redirect_stdout(stdout),
                contextlib.redirect_stderr(stderr),
                pytest.raises(SystemExit) as end,
            ):
                main(words)
        finally:
            sys.unraisablehook = hook
            for number, handler in handlers.items():
                signal.signal(number, handler)
        ended = int(end.value.code or 0)
        done = subprocess.CompletedProcess(words, ended, stdout.getvalue(), stderr.getvalue())
        assert ended == code, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    return call


@pytest.fixture(scope="session")
def trained(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the reference network, trained for two epochs."""
    folder = tmp_path_factory.mktemp("trained") / "cnn"
    harness("train", "--epochs", 2, "--output", folder)
    return folder


@pytest.fixture(scope="session")
def triton_models(
    harness: Harness, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model repository that holds the trained network as ``cnn``."""
    root = tmp_path_factory.mktemp("triton_models")
    harness("export", "--source", trained, "--name", "cnn", "--output", root)
    return root


@pytest.fixture(scope="session")
def container_engine() -> Iterator[DockerClient]:
    """A client of a real container engine."""
    client = connected()
    yield client
    client.close()


@pytest.fixture(scope="session")
def triton_image(container_engine: DockerClient) -> str:
    """The name of the image that holds the real Triton, made here."""
    return built_image()


@pytest.fixture
def box(
    container_engine: DockerClient,
    triton_image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Box:
    """What starts containers that leave nothing."""
    return own_box(container_engine, triton_image, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Somebody]:
    """A Triton that goes on through all of a module's tests, run by somebody else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_ADMIN", ADMIN)
        with somebody(tmp_path_factory.mktemp("somebody")) as triton:
            yield triton


@pytest.fixture
def running(
    request: pytest.FixtureRequest,
    triton_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., RunCommand]]:
    """Starts ``harness run``; whatever a test does, it has ended when the test has."""
    started: list[RunCommand] = []

    def start(
        kind: str, measure: str = MEASURE, *, more: str = "", models: Path = triton_models
    ) -> RunCommand:
        folder = tmp_path / str(len(started)) if started else tmp_path
        folder.mkdir(exist_ok=True)
        server, client = f"kind: {kind}{more}", None
        if kind == "container":
            client = request.getfixturevalue("container_engine")
            image = request.getfixturevalue("triton_image")
            own_box(client, image, folder, monkeypatch)
            server += f", network: host, image: '{image}'"
        else:
            make_home(folder, monkeypatch)
        scenario = folder / "faults.yaml"
        scenario.write_text(scenario_text(server, measure))
        started.append(run_command(scenario, models, folder / "tmp", client))
        return started[-1]

    yield start
    for command in started:
        command.process.kill()
        command.process.communicate()  # and close its pipes
