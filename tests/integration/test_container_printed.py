"""The compose file that ``harness serve`` prints: a valid one, of the container that the harness launches."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from docker.errors import NotFound
from docker.utils import parse_bytes

from harness.servers.container.launch import DEFAULT_IMAGE
from harness.servers.ports import choose_ports
from tests.containers import MODELS
from tests.footprint import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.containers import Box, Traces

# What is printed of a service, and its type (https://compose-spec.io, schema/compose-spec.json).
SERVICE = {
    "image": str,
    "command": list,
    "volumes": list,
    "shm_size": str,
    "security_opt": list,
    "network_mode": str,
    "ports": list,
    "mem_limit": str,
    "memswap_limit": str,
    "cpuset": str,
    "environment": dict,
    "deploy": dict,
}
SERVE = [sys.executable, "-m", "harness", "serve", "identity", "-r", str(MODELS)]


def printed(options: Sequence[str]) -> dict[str, Any]:
    """The one service of the compose file that the command prints; ``docker compose`` takes it, where it is."""
    done = subprocess.run(
        [*SERVE, *options, "--print-compose"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"COLUMNS": "40", "TOKEN": "a secret"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "a secret" not in done.stdout
    docker = shutil.which("docker")
    if (
        docker
        and not subprocess.run(
            [docker, "compose", "version"], capture_output=True, check=False
        ).returncode
    ):
        subprocess.run(
            [docker, "compose", "-f", "-", "config", "--quiet"],
            input=done.stdout.encode(),
            check=True,
        )
    file = yaml.safe_load(done.stdout)
    assert file.keys() == {"services"}
    assert file["services"].keys() == {"triton"}
    service: dict[str, Any] = file["services"]["triton"]
    for key, value in service.items():
        assert type(value) is SERVICE[key], key
    for key in ("command", "security_opt", "ports"):
        assert all(type(item) is str for item in service.get(key, ())), key
    return service


def test_the_printed_compose_file_says_all_that_is_asked_for_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine")
    options = ["--gpus=0,1", "--shm-size=2g", "--memory=1536m", "--cpus=0-1", "--http-port=18000"]
    options += ["--env=A=$x", "--env=TOKEN", "--server-arg=--rate-limit=off"]
    service = printed(options)
    assert service.keys() == SERVICE.keys() - {"network_mode"}
    assert service["image"] == DEFAULT_IMAGE
    assert service["ports"] == [
        "127.0.0.1:18000:8000",
        "127.0.0.1:8001:8001",
        "127.0.0.1:8002:8002",
    ]
    assert service["command"][-2:] == ["--rate-limit=off", "--load-model=identity"]
    assert service["environment"] == {"A": "$$x", "TOKEN": None}
    assert service["deploy"] == {
        "resources": {
            "reservations": {
                "devices": [{"driver": "nvidia", "device_ids": ["0", "1"], "capabilities": ["gpu"]}]
            }
        }
    }
    plain = printed([])
    assert plain.keys() == {"image", "command", "volumes", "shm_size", "security_opt", "ports"}


def test_a_command_and_a_compose_file_cannot_be_asked_for_at_once() -> None:
    done = subprocess.run(
        [*SERVE, "--print-command", "--print-compose"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --print-command --print-compose: only one of the two can be printed."
        " Leave one of them out.\n"
    )


def launched(traces: Traces) -> list[dict[str, Any]]:
    """The containers that have come since and run a server; before it, one lists the image's backends."""
    api = traces.client.api
    found = []
    for one in api.containers():
        if one["Id"] not in traces.before["containers"]:
            with contextlib.suppress(NotFound):  # it has just gone
                found.append(api.inspect_container(one["Id"]))
    return [made for made in found if "tritonserver" in (made["Config"]["Cmd"] or ())]


@pytest.mark.long
@pytest.mark.parametrize("network", ["bridge", "host"])
def test_the_printed_compose_file_is_the_container_that_is_launched(box: Box, network: str) -> None:
    ports = choose_ports({"http": 0, "grpc": 0, "metrics": 0})
    options = ["--image", box.image, "--network", network, "--shm-size=96m", "--memory=1g"]
    options += ["--cpus=0", "--env=A=$x", "--server-arg=--log-info=true"]
    options += [f"--{name}-port={port}" for name, port in ports.items()]
    service = printed(options)
    traces = box.traces()
    with subprocess.Popen(
        [*SERVE, *options, "--container"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(lambda: launched(traces) or process.poll() is not None, 60, "a container")
            assert process.poll() is None, process.communicate()
            (made,) = launched(traces)
            assert traces.note().pids
        finally:
            process.terminate()
            process.communicate(timeout=120)
    traces.assert_gone()
    config, host = made["Config"], made["HostConfig"]
    image = box.client.images.get(service["image"])
    assert made["Image"] == image.id
    # Of models the harness sees to itself, over the control plane.
    assert service["command"] == [*config["Cmd"], "--load-model=identity"]
    variables = [f"{name}={value}" for name, value in service["environment"].items()]
    assert [word.replace("$$", "$") for word in variables] == [
        word for word in config["Env"] if word not in (image.attrs["Config"]["Env"] or ())
    ]
    assert parse_bytes(service["shm_size"]) == host["ShmSize"]
    assert parse_bytes(service["mem_limit"]) == host["Memory"]
    assert parse_bytes(service["memswap_limit"]) == host["MemorySwap"]
    assert service["cpuset"] == host["CpusetCpus"]
    assert service["security_opt"] == host["SecurityOpt"]
    assert ("host" if host["NetworkMode"] == "host" else None) == service.get("network_mode")
    assert service.get("ports", []) == [
        f"{binding['HostIp']}:{binding['HostPort']}:{inside.removesuffix('/tcp')}"
        for inside, bindings in sorted((host["PortBindings"] or {}).items())
        for binding in bindings
    ]
    (volume,), (mount,) = service["volumes"], host["Mounts"]
    assert (volume["type"], volume["target"], volume["read_only"]) == (
        mount["Type"],
        mount["Target"],
        mount["ReadOnly"],
    )
    assert volume["source"] == str(MODELS)  # the harness mounts a copy, which it removes
    assert volume["bind"] == {"create_host_path": False}  # nor does a mount make one
