"""The container that is run and the command that is printed come from one launch."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import EnvironmentFailedError, UsageError
from harness.scenario import ServerSpec
from harness.servers.container.create import refusal
from harness.servers.container.launch import (
    DEFAULT_IMAGE,
    STANDARD_PORTS,
    Launch,
    plan_launch,
    security_options,
)
from harness.servers.container.launch_command import compose_file, docker_run
from harness.servers.ports import PortTakenError

PORTS = {"http": 18000, "grpc": 18001, "metrics": 18002}


def launch(repository: Path = Path("/repo"), **spec: Any) -> Launch:
    asked = ServerSpec.model_validate({"kind": "container", **spec})
    return plan_launch(asked, repository, PORTS, models=["cnn"])


def words(plan: Launch) -> list[str]:
    """What a shell makes of the line, asked of a real one."""
    printed = docker_run(plan).replace("docker run", "printf '%s\\0'", 1)
    done = subprocess.run(["bash", "-c", printed], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_the_default_image_is_of_a_pinned_release() -> None:
    assert launch().image == DEFAULT_IMAGE
    assert DEFAULT_IMAGE.startswith("nvcr.io/nvidia/tritonserver:")
    assert launch(image="mine:1").image == "mine:1"


def test_ports_are_published_to_loopback_only() -> None:
    plan = launch()
    assert plan.published == {8000: 18000, 8001: 18001, 8002: 18002}
    line = words(plan)
    published = [line[i + 1] for i, word in enumerate(line) if word == "-p"]
    assert published == ["127.0.0.1:18000:8000", "127.0.0.1:18001:8001", "127.0.0.1:18002:8002"]
    assert "--http-address=0.0.0.0" in plan.command  # inside its own network


def test_on_the_hosts_network_it_listens_on_loopback() -> None:
    plan = launch(network="host")
    assert not plan.published
    assert "--network=host" in words(plan)
    assert "-p" not in words(plan)
    assert {"--http-port=18000", "--grpc-port=18001", "--metrics-port=18002"} <= set(plan.command)
    for kind in STANDARD_PORTS:
        assert f"--{kind}-address=127.0.0.1" in plan.command
    assert not any("0.0.0.0" in word for word in plan.command)


def test_everything_that_is_asked_for_is_in_the_line() -> None:
    plan = launch(
        image="mine:1",
        gpus=[0, 1],
        shm_size="2g",
        memory="1536m",
        cpus=[0, 2],
        extra_args=["--rate-limit=off"],
        env={"A": "b c", "TOKEN": None},
    )
    line = words(plan)
    assert line[:2] == ["--rm", "--gpus"]
    assert line[2] == '"device=0,1"'
    for word in (
        "--shm-size=2g",
        "--memory=1536m",
        "--memory-swap=1536m",
        "--cpuset-cpus=0,2",
        "--security-opt=no-new-privileges",
        "type=bind,source=/repo,target=/models,readonly",
        "A=b c",
        "TOKEN",
    ):
        assert word in line
    image = line.index("mine:1")
    assert line[image + 1 :] == list(plan.command)
    assert line[-1] == "--load-model=cnn"
    assert "--rate-limit=off" in line


def test_one_gpu_or_all_or_none() -> None:
    assert '"device=GPU-8f2d"' in words(launch(gpus="GPU-8f2d"))
    assert words(launch(gpus="all"))[1:3] == ["--gpus", "all"]
    assert "--gpus" not in words(launch())
    assert "--allow-gpu-metrics=false" in launch().command
    assert "--allow-gpu-metrics=false" not in launch(gpus="all").command


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0"), max_size=30
)


@settings(max_examples=30, deadline=None)
@given(value=TEXT, argument=TEXT)
def test_no_text_becomes_a_command_of_the_shell(value: str, argument: str) -> None:
    plan = launch(env={"A": value}, extra_args=[f"--x={argument}"])
    line = words(plan)
    assert f"A={value}" in line
    assert f"--x={argument}" in line
    assert line[line.index(DEFAULT_IMAGE) + 1 :] == list(plan.command)


def test_a_path_with_commas_quotes_and_blanks_stays_one_path() -> None:
    mount = words(launch(Path('/a b,"c"$(x)')))
    assert 'type=bind,"source=/a b,""c""$(x)",target=/models,readonly' in mount


def test_the_compose_file_says_the_same() -> None:
    plan = launch(
        gpus=[0], memory="1g", cpus=[1], env={"A": "$HOME", "TOKEN": None}, image="mine:1"
    )
    service = yaml.safe_load(compose_file(plan))["services"]["triton"]
    assert service["image"] == "mine:1"
    assert service["command"] == list(plan.command)
    assert service["ports"] == [
        "127.0.0.1:18000:8000",
        "127.0.0.1:18001:8001",
        "127.0.0.1:18002:8002",
    ]
    (volume,) = service["volumes"]
    assert volume["read_only"]
    assert (volume["source"], volume["target"]) == ("/repo", "/models")
    assert volume["bind"] == {"create_host_path": False}
    assert service["mem_limit"] == service["memswap_limit"] == "1g"
    assert service["cpuset"] == "1"
    assert service["environment"] == {"A": "$$HOME", "TOKEN": None}
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}


def test_the_compose_file_of_the_hosts_network_publishes_nothing() -> None:
    service = yaml.safe_load(compose_file(launch(network="host")))["services"]["triton"]
    assert service["network_mode"] == "host"
    assert "ports" not in service
    assert "deploy" not in service
    assert "environment" not in service


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--model-repository=/x", "--model-repository is the harness's own. Leave it out"),
        ("--http-port=1", "--http-port is the harness's own. Leave it out"),
        ("--http-address=0.0.0.0", r"-address is the .*own. Leave it out: .* on loopback only"),
        ("--grpc-address=::", "--grpc-address is the harness's own"),
        ("--metrics-address", "--metrics-address is the harness's own"),
        ("--allow-sagemaker=true", r"-sagemaker is the .*own. Leave it out: .* on loopback only"),
        ("--allow-vertex=true", r"--allow-vertex \(--allow-vertex-ai\) is the harness's own"),
        ("--http-a=0.0.0.0", r"--http-a \(--http-address\) is the harness's own"),
        ("--log-fi=/x", r"--log-fi \(--log-file\) is the harness's own"),
    ],
)
@pytest.mark.parametrize("network", ["bridge", "host"])
def test_options_of_the_harness_are_not_for_others(option: str, said: str, network: str) -> None:
    with pytest.raises(UsageError, match=said):
        launch(extra_args=option, network=network)


@pytest.mark.parametrize(
    "option",
    ["--http-thread-count=2", "--log-verbose=1", "--cache-config=a", "--allow-gpu-metrics=0"],
)
def test_other_options_are_passed_on(option: str) -> None:
    assert option in launch(extra_args=option).command


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = launch(env={"TOKEN": None, "A": "1"})
    monkeypatch.setenv("TOKEN", "secret")
    assert plan.environment() == {"TOKEN": "secret", "A": "1"}
    assert "secret" not in docker_run(plan) + compose_file(plan) + repr(plan)
    monkeypatch.delenv("TOKEN")
    with pytest.raises(UsageError, match="TOKEN is to be passed on to the server and is not set"):
        plan.environment()


def test_where_selinux_is_on_the_repository_can_be_read() -> None:
    assert "label=disable" in security_options(selinux=True)
    assert security_options(selinux=False) == ("no-new-privileges",)


@pytest.mark.parametrize(
    ("said", "kind", "meaning"),
    [
        (
            "Error starting userland proxy: listen tcp4 127.0.0.1:18000: bind: address already in use",
            PortTakenError,
            "port 18000 is already in use",
        ),
        (
            "Bind for 127.0.0.1:18001 failed: port is already allocated",
            PortTakenError,
            "port 18001 is already in use",
        ),
        (
            'could not select device driver "" with capabilities: [[gpu]]',
            EnvironmentFailedError,
            "no GPU to give",
        ),
        (
            "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1",
            EnvironmentFailedError,
            "no GPU to give",
        ),
        (
            'invalid mount config for type "bind": bind source path does not exist: /repo',
            EnvironmentFailedError,
            "does not see /repo",
        ),
        (
            "Requested CPUs are not available - requested 99, available: 0-1",
            UsageError,
            "the cores 99 cannot be given",
        ),
        ("Minimum memory limit allowed is 6MB", UsageError, "6MB. Give more"),
        ("something else", EnvironmentFailedError, "something else"),
    ],
)
def test_an_engines_refusal_is_put_into_words(said: str, kind: type, meaning: str) -> None:
    error = refusal(
        EnvironmentFailedError(f"the container cannot be made: {said}"), launch(cpus=99)
    )
    assert type(error) is kind
    assert meaning in str(error)


def test_the_line_is_quoted_for_a_shell_and_reads_well() -> None:
    assert docker_run(launch()).splitlines()[0] == "docker run \\"
    assert shlex.split(docker_run(launch()))[:2] == ["docker", "run"]
