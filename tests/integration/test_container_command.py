"""``harness serve --container`` from outside: how it ends, what a killed one leaves, what it refuses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.servers.container import engine
from harness.servers.leftovers import reap
from harness.servers.ports import choose_ports
from tests.containers import MODELS, infer
from tests.footprint import lives, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from tests.containers import Box, Traces


@contextmanager
def command(*arguments: object, **options: object) -> Iterator[subprocess.Popen[str]]:
    """The ``harness`` command, killed at the end if it still runs."""
    harness = shutil.which("harness", path=str(Path(sys.executable).parent))
    assert harness
    with subprocess.Popen(
        [harness, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def served(process: subprocess.Popen[str], traces: Traces) -> None:
    """Wait until ``harness serve`` has said where it listens, and note what it has started."""
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(3)]
    assert [line.split()[0] for line in lines] == ["HTTP", "gRPC", "metrics"], lines
    traces.note()
    assert traces.pids


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_in_order(box: Box, number: int) -> None:
    traces = box.traces()
    with command("serve", "identity", "-r", MODELS, "--container", "--image", box.image) as process:
        served(process, traces)
        process.send_signal(number)
        assert process.wait(60) == 0
        traces.assert_gone()


@pytest.mark.long
def test_a_terminal_that_interrupts_everyone_ends_in_order(box: Box) -> None:
    traces = box.traces()
    arguments = ("serve", "identity", "-r", MODELS, "--container", "--image", box.image)
    with command(*arguments, start_new_session=True) as process:
        served(process, traces)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) in {0, 130}
        traces.assert_gone(5)


@pytest.mark.long
@pytest.mark.parametrize("delay_s", [0.3, 0.5, 0.7, 0.9, 1.1, 1.4, 1.8, 2.4])
def test_serve_is_interrupted_while_it_starts(box: Box, delay_s: float) -> None:
    """At every stage: looking into the image, making the container, starting it, loading."""
    traces = box.traces()
    with command("serve", "-r", MODELS, "--container", "--image", box.image) as process:
        time.sleep(delay_s)
        process.send_signal(signal.SIGTERM)
        # Before Python has installed its handler, the signal ends it as it ends any program.
        _, said = process.communicate(timeout=120)
        assert process.returncode in {0, 130, -signal.SIGTERM}, said
        traces.assert_gone()


@pytest.mark.long
def test_a_killed_command_leaves_nothing_to_the_next_start(box: Box) -> None:
    traces = box.traces()
    with command("serve", "identity", "-r", MODELS, "--container", "--image", box.image) as process:
        served(process, traces)
        process.kill()
        process.wait()
    assert any(line.startswith("containers") for line in traces.left())
    with box.running():
        # It was noted by what came after, so its end is looked at here.
        wait_until(lambda: not any(lives(pid) for pid in traces.pids), 5, "its processes")
        traces.pids.clear()
    traces.assert_gone()


@pytest.mark.long
def test_a_start_of_any_kind_removes_a_killed_commands_container(box: Box) -> None:
    traces = box.traces()
    with command("serve", "identity", "-r", MODELS, "--container", "--image", box.image) as process:
        served(process, traces)
        process.kill()
        process.wait()
    done = reap()
    assert any(line.startswith("removed container triton-harness-serve-") for line in done)
    traces.assert_gone()


@pytest.mark.long
def test_a_container_of_a_living_owner_is_left_alone(box: Box) -> None:
    with box.running(("identity",)) as (server, _):
        assert engine.reap(server.client) == []
        assert reap() == []
        assert infer(server, "identity", 4) == 4


def test_a_container_of_another_machine_is_left_alone(
    box: Box, container_engine: DockerClient
) -> None:
    """Several machines may use one engine: what runs there is nobody's to remove from here."""
    marks = engine.labels("elsewhere")
    boot = '"boot": "'
    marks[engine.LABEL_OWNER] = marks[engine.LABEL_OWNER].replace(boot, f"{boot}another-")
    containers = container_engine.containers
    made = containers.create(box.image, ["sleep", "100"], labels=marks, network_mode="none")
    try:
        made.start()
        assert engine.reap(container_engine) == []
        made.kill()
        wait_until(lambda: containers.get(made.id).status == "exited")
        assert len(engine.reap(container_engine)) == 1
        assert made.id not in {one.id for one in containers.list(all=True)}
    finally:
        engine.remove(container_engine, made.id)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--image", "registry.invalid/t:1", "--container"], 3, "registry cannot be reached"),
        (["--image", "x y", "--container"], 2, "--image"),
        (["--shm-size", "1g"], 2, "this is an option of containers. Add --container"),
        (["--container", "--memory", "7"], 2, "size with its unit"),
        (["--container", "--network", "none"], 2, "--network"),
        (["--container", "--gpus", "some"], 2, "--gpus: expected all"),
    ],
)
def test_serve_refuses(box: Box, arguments: list[str], code: int, said: str) -> None:
    traces = box.traces()
    wide = os.environ | {"COLUMNS": "200"}
    with command("serve", "identity", "-r", MODELS, *arguments, env=wide) as process:
        _, stderr = process.communicate(timeout=120)
    assert said in stderr
    assert process.returncode == code
    assert stderr.count("\n") == 1
    traces.assert_gone()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.long
@pytest.mark.parametrize("network", ["bridge", "host"])
def test_the_printed_command_serves(box: Box, container_engine: DockerClient, network: str) -> None:
    """What is printed is run by a shell, with the engine's own command."""
    if shutil.which("docker") is None:
        pytest.skip("no docker command")
    arguments = ("serve", "identity", "-r", MODELS, "--image", box.image, "--print-command")
    ports = choose_ports({"http": 0, "grpc": 0, "metrics": 0})
    given = [word for kind, port in ports.items() for word in (f"--{kind}-port", port)]
    with command(*arguments, *given, "--network", network) as process:
        line, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    traces = box.traces()
    name = "triton-harness-printed"
    shell = line.replace("docker run", f"docker run --name {name}", 1)
    with subprocess.Popen(
        ["bash", "-c", shell], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ):
        try:
            url = f"http://127.0.0.1:{ports['http']}/v2/models/identity/ready"
            wait_until(lambda: answers(url), 60, url)
        finally:
            engine.stop(container_engine, name, 8)
    traces.assert_gone()
