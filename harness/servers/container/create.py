"""From a launch to a started container; what the engine refuses is put into one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from harness.errors import EnvironmentFailedError, HarnessError, UsageError
from harness.servers.container.engine import engine_errors
from harness.servers.container.launch import MODELS
from harness.servers.ports import LOOPBACK, PortTakenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient

    from harness.servers.container.launch import Launch

__all__ = ["create", "main_process", "start"]

LARGEST_ENGINE_LOG = {"max-size": "64m", "max-file": "1"}


def create(
    client: DockerClient, launch: Launch, image_id: str, name: str, labels: Mapping[str, str]
) -> str:
    """Make the container ``name``, not yet started; return its id.

    Raises:
        HarnessError: the engine refuses, with the way out.
    """
    from docker.types import DeviceRequest, LogConfig, Mount

    options: dict[str, Any] = {}
    if launch.network == "host":
        options["network_mode"] = "host"
    else:
        options["ports"] = {
            f"{inside}/tcp": (LOOPBACK, outside) for inside, outside in launch.published.items()
        }
    if launch.memory_bytes is not None:
        options |= {"mem_limit": launch.memory_bytes, "memswap_limit": launch.memory_bytes}
    if launch.cpus:
        options["cpuset_cpus"] = launch.cpuset
    if launch.gpus:
        which = {"count": -1} if launch.gpus == ("all",) else {"device_ids": list(launch.gpus)}
        options["device_requests"] = [DeviceRequest(capabilities=[["gpu"]], **which)]
    try:
        with engine_errors("the container cannot be made"):
            container = client.containers.create(
                image_id,
                list(launch.command),
                name=name,
                labels=dict(labels),
                environment=launch.environment(),
                # Unlike a volume, a mount of a path that is not there is refused.
                mounts=[Mount(MODELS, str(launch.repository), type="bind", read_only=True)],
                shm_size=launch.shm_size_bytes,
                security_opt=list(launch.security),
                log_config=LogConfig(type=LogConfig.types.JSON, config=LARGEST_ENGINE_LOG),
                **options,
            )
    except EnvironmentFailedError as error:
        raise refusal(error, launch) from error
    host = container.attrs.get("HostConfig") or {}
    # Podman 4 takes a request for GPUs without a word, and forgets it.
    if launch.gpus and not (host.get("DeviceRequests") or host.get("Devices")):
        raise EnvironmentFailedError(
            "the container engine has no GPU to give (it ignores the request)",
            where="server.gpus",
            remedy="Use Docker, or a Podman that knows CDI devices, or leave gpus out",
        )
    return container.id or name


def start(client: DockerClient, launch: Launch, name: str) -> None:
    """Start a container that was made.

    Raises:
        PortTakenError: a port was taken in the meantime.
        HarnessError: the engine refuses, with the way out.
    """
    try:
        with engine_errors("the container cannot be started"):
            client.api.start(name)
    except EnvironmentFailedError as error:
        raise refusal(error, launch) from error


def refusal(error: EnvironmentFailedError, launch: Launch) -> HarnessError:
    """Say what an engine's refusal to make or start a container means."""
    said = error.what.lower()
    if any(mark in said for mark in ("already allocated", "address already in use")):
        port = re.search(rf"{re.escape(LOOPBACK)}:(\d+)|:(\d+)\b", said)
        number = next(filter(None, port.groups()), "") if port else ""
        return PortTakenError(
            f"port {number} is already in use".replace("  ", " "),
            remedy="Choose another one, or 0 to have a free one picked",
        )
    if any(mark in said for mark in ("device driver", "nvidia", "cdi device", "unresolvable cdi")):
        return EnvironmentFailedError(
            f"the container engine has no GPU to give ({error.what})",
            where="server.gpus",
            remedy="Install NVIDIA's driver and Container Toolkit for this engine, or leave gpus out",
        )
    if any(mark in said for mark in ("source path does not exist", "no such file or directory")):
        return EnvironmentFailedError(
            f"the container engine does not see {launch.repository}: it runs on another machine,"
            " or in a virtual machine that shares other folders",
            remedy="Set TMPDIR to a folder that the engine sees under the same path",
        )
    if "cpus are not available" in said or "cpuset" in said:
        return UsageError(
            f"the cores {launch.cpuset} cannot be given to the container ({error.what})",
            where="server.cpus",
        )
    if "memory limit" in said:
        return UsageError(f"{error.what}", where="server.memory", remedy="Give more")
    return error


def main_process(client: DockerClient, name: str) -> psutil.Process | None:
    """The container's main process, where it is among the processes of this machine.

    An engine elsewhere has process numbers of its own, so the process must say that it is in the container.
    """
    with engine_errors("the container cannot be looked at"):
        attributes = client.api.inspect_container(name)
    pid = int(attributes.get("State", {}).get("Pid") or 0)
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8") if pid else ""
        return psutil.Process(pid) if attributes["Id"] in groups else None
    except (OSError, psutil.Error):
        return None
