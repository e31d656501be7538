"""The same container for people who launch it themselves: a ``docker run`` line, a compose file."""

from __future__ import annotations

import csv
import io
import shlex
from typing import TYPE_CHECKING, Any

import yaml

from harness.servers.container.launch import MODELS
from harness.servers.ports import LOOPBACK

if TYPE_CHECKING:
    from harness.servers.container.launch import Launch

__all__ = ["compose_file", "docker_run"]

BINARY_UNITS = {1 << 30: "g", 1 << 20: "m", 1 << 10: "k"}


def docker_run(launch: Launch) -> str:
    """The equivalent ``docker run`` command line, quoted for a shell, an option a line."""
    options: list[list[str]] = [["--rm"]]
    if launch.gpus:
        options.append(["--gpus", _gpus(launch.gpus)])
    options.append([f"--shm-size={_size(launch.shm_size_bytes)}"])
    if launch.memory_bytes is not None:
        size = _size(launch.memory_bytes)
        options.append([f"--memory={size}", f"--memory-swap={size}"])
    if launch.cpus:
        options.append([f"--cpuset-cpus={launch.cpuset}"])
    options.append([f"--security-opt={option}" for option in launch.security])
    if launch.network == "host":
        options.append(["--network=host"])
    for inside, outside in launch.published.items():
        options.append(["-p", f"{LOOPBACK}:{outside}:{inside}"])
    options.append(["--mount", _mount(launch)])
    for name, value in launch.env.items():
        options.append(["--env", name if value is None else f"{name}={value}"])
    program, *arguments = launch.command
    lines = ["docker run", *map(shlex.join, options), shlex.join([launch.image, program])]
    return " \\\n  ".join([*lines, *map(shlex.quote, arguments)])


def compose_file(launch: Launch) -> str:
    """The equivalent compose file (https://compose-spec.io), for ``docker compose up``."""
    service: dict[str, Any] = {
        "image": launch.image,
        "command": list(launch.command),
        "volumes": [
            {
                "type": "bind",
                "source": str(launch.repository),
                "target": MODELS,
                "read_only": True,
                "bind": {"create_host_path": False},
            }
        ],
        "shm_size": _size(launch.shm_size_bytes),
        "security_opt": list(launch.security),
    }
    if launch.network == "host":
        service["network_mode"] = "host"
    else:
        service["ports"] = [
            f"{LOOPBACK}:{out}:{inside}" for inside, out in launch.published.items()
        ]
    if launch.memory_bytes is not None:
        service["mem_limit"] = service["memswap_limit"] = _size(launch.memory_bytes)
    if launch.cpus:
        service["cpuset"] = launch.cpuset
    if launch.env:
        service["environment"] = dict(launch.env)
    if launch.gpus:
        which = {"count": "all"} if launch.gpus == ("all",) else {"device_ids": list(launch.gpus)}
        device = {"driver": "nvidia", **which, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    text: str = yaml.safe_dump(
        {"services": {"triton": _literal(service)}}, sort_keys=False, allow_unicode=True, width=100
    )
    return text


def _literal(value: Any) -> Any:  # noqa: ANN401 - whatever a compose file may hold
    """Double each dollar sign, which compose would take for a variable."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_literal(item) for item in value]
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    return value


def _gpus(gpus: tuple[str, ...]) -> str:
    """What ``--gpus`` takes; it is read as CSV, so a list needs quotes of its own."""
    return "all" if gpus == ("all",) else f'"device={",".join(gpus)}"'


def _mount(launch: Launch) -> str:
    """What ``--mount`` takes, which is CSV too. Unlike ``-v`` it refuses a path that is not there."""
    text = io.StringIO()
    words = ["type=bind", f"source={launch.repository}", f"target={MODELS}", "readonly"]
    csv.writer(text, lineterminator="").writerow(words)
    return text.getvalue()


def _size(size_bytes: int) -> str:
    """A size as Docker reads it: ``1g``, ``1536m``, ``1000``."""
    for unit, letter in BINARY_UNITS.items():
        if size_bytes % unit == 0:
            return f"{size_bytes // unit}{letter}"
    return f"{size_bytes}b"
