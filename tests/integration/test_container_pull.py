"""An image that comes from a registry, whole or not: what is shown meanwhile, what is recorded, what is left."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from harness.archive import open_run
from harness.errors import EnvironmentFailedError
from harness.servers.container import image
from harness.servers.container.start import prepare_image
from tests.commands import scenario_text
from tests.containers import MODELS, own_box
from tests.footprint import listens
from tests.registry import layer, registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker import DockerClient

    from harness.scenario import ServerSpec
    from harness.servers.container.image import PullProgress
    from tests.containers import Box
    from tests.registry import Registry

LARGE_BYTES = 8 << 20
VARIABLES = ["PATH=/bin", "NVIDIA_TRITON_SERVER_VERSION=25.01"]


@pytest.fixture(scope="module")
def program(container_engine: DockerClient, triton_image: str) -> bytes:
    """What lists an image's backends."""
    api = container_engine.api
    made = api.create_container(triton_image)["Id"]
    try:
        archive = b"".join(api.get_archive(made, "/usr/bin/busybox")[0])
    finally:
        api.remove_container(made)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile("busybox")
        assert file
        return file.read()


@contextmanager
def serving(client: DockerClient) -> Iterator[Registry]:
    """A registry; afterwards its port is closed, and the engine has no image of it."""
    with registry() as store:
        try:
            yield store
        finally:
            for found in client.images.list(name=store.image.partition(":test")[0]):
                client.images.remove(found.id if not found.tags else store.image)
    assert not listens(store.port)


@pytest.fixture
def store(box: Box, program: bytes) -> Iterator[Registry]:
    """A registry of an image with two backends and no server; none of it may be left."""
    traces = box.traces()
    with serving(box.client) as store:
        folders = {f"opt/tritonserver/backends/{name}/x": b"" for name in ("python", "onnxruntime")}
        large = {"large": os.urandom(LARGE_BYTES)}  # which cannot be packed
        layers = [layer(files) for files in ({"bin/ls": program}, folders, large)]
        store.put(layers, {"config": {"Env": VARIABLES}})
        yield store
    traces.assert_gone()


def spec(box: Box, store: Registry) -> ServerSpec:
    return box.spec(image=store.image)


def test_an_image_is_fetched_and_shown_on_its_way(box: Box, store: Registry) -> None:
    """The registry waits in the midst of a layer until that has been shown."""
    seen: list[PullProgress] = []
    shown = threading.Event()

    def show(progress: PullProgress) -> None:
        seen.append(progress)
        if progress.total_bytes > LARGE_BYTES and progress.done_bytes < progress.total_bytes:
            shown.set()

    def wait_until_shown() -> bool:
        shown.wait(60)
        return False

    store.on_half = wait_until_shown
    prepare_image(spec(box, store), show)
    assert shown.is_set()
    last = seen[-1]
    assert last.layers_done == last.layers_sized == last.layers == 3
    assert LARGE_BYTES < last.done_bytes == last.total_bytes <= store.size_bytes
    assert sum(each.done_bytes < each.total_bytes for each in seen) > 0
    found = box.client.images.get(store.image)
    facts = image.facts(box.client, store.image, found.id, "test")
    assert facts.digest == f"{store.image.removesuffix(':test')}@{store.digest}"
    assert facts.backends == ("onnxruntime", "python")
    assert facts.release == "25.01"
    seen.clear()
    prepare_image(spec(box, store), seen.append)
    assert not seen


def test_a_layer_that_is_not_what_its_digest_says(box: Box, store: Registry) -> None:
    largest = max(store.blobs, key=lambda digest: len(store.blobs[digest]))
    store.blobs[largest] = store.blobs[largest][:-1] + b"x"
    with pytest.raises(EnvironmentFailedError) as error:
        prepare_image(spec(box, store), lambda _: None)
    assert str(error.value).startswith(f"the image {store.image} is not here and ")
    assert largest in str(error.value)


@contextmanager
def command(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The ``harness`` command, away from a terminal."""
    with subprocess.Popen(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_on_the_way(box: Box, store: Registry, number: int) -> None:
    half, ended = threading.Event(), threading.Event()
    store.on_half = lambda: half.set() or ended.wait(120)
    options = ("-r", MODELS, "--container", "--image", store.image)
    with command("serve", "identity", *options) as process:
        assert process.stderr
        assert process.stderr.readline() == f"Fetching the image {store.image}\n"
        assert half.wait(60)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        ended.set()
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "error: interrupted."


@pytest.mark.long
def test_a_registry_that_breaks_off(box: Box, store: Registry) -> None:
    """The engine itself asks again, by default five times in over a minute; then there is an end."""
    store.on_half = lambda: True
    options = ("-r", MODELS, "--container", "--image", store.image)
    with command("serve", "identity", *options) as process:
        stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 3
    assert not stdout
    begun, *lines, last = stderr.splitlines()
    assert begun == f"Fetching the image {store.image}"
    assert lines
    how = r"  \d.* [kM]B of .* MB, [0-2]/3 layers(, .* left|; the registry broke off, and is asked again)"
    assert all(re.fullmatch(how, line) for line in lines)
    assert any(line.endswith("is asked again") for line in lines)
    assert last.startswith(f"error: the image {store.image} is not here and the connection to its")
    assert "Run it again" in last


@pytest.mark.long
def test_a_run_records_which_image_it_fetched(
    container_engine: DockerClient,
    triton_image: str,
    triton_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = own_box(container_engine, triton_image, tmp_path, monkeypatch)
    traces = box.traces()
    with serving(container_engine) as store:
        store.put(*contents(box))
        scenario = tmp_path / "pulled.yaml"
        server = f"kind: container, network: host, image: '{store.image}'"
        scenario.write_text(scenario_text(server, "window: 300ms, passes: 1, sentinels: false"))
        options = ("--models", triton_models, "--output", tmp_path / "reports")
        with command("run", scenario, *options) as process:
            _, stderr = process.communicate(timeout=240)
        # It may be that no window is valid on a busy machine.
        assert process.returncode in {0, 4}, stderr
        lines = stderr.splitlines()
        at = lines.index(f"Fetching the image {store.image}")
        assert any(line.startswith("  here after ") for line in lines[at:])
        run = open_run(next(tmp_path.glob("reports/*/run.json")).parent)
        said = run.record().server
        assert said["image_digest"] == f"{store.image.removesuffix(':test')}@{store.digest}"
        assert said["image"] == store.image
    traces.assert_gone()


def contents(box: Box) -> tuple[list[bytes], dict[str, object]]:
    """The layers and the configuration of the image with the real Triton, as its engine keeps them."""
    archive = io.BytesIO(b"".join(box.client.api.get_image(box.image)))
    with tarfile.open(fileobj=archive) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file
            return file.read()

        (manifest,) = json.loads(read("manifest.json"))
        configuration = json.loads(read(manifest["Config"]))
        return [read(name) for name in manifest["Layers"]], {"config": configuration["config"]}
