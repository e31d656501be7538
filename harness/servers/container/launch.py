"""What a container is made of: from a scenario's ``server`` to one frozen :class:`Launch`.

The container that the harness runs and the command line that it prints are made from the same launch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import UsageError
from harness.servers.ports import LOOPBACK
from harness.servers.triton import server_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.scenario import ServerSpec

__all__ = ["DEFAULT_IMAGE", "MODELS", "RELEASE", "STANDARD_PORTS", "Launch", "plan_launch"]

RELEASE = "26.09"  # of NVIDIA's image, by year and month: the one place that says so
DEFAULT_IMAGE = f"nvcr.io/nvidia/tritonserver:{RELEASE}-py3"
MODELS = "/models"  # where the repository is mounted
SELINUX = Path("/sys/fs/selinux/enforce")
STANDARD_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}


@dataclass(frozen=True)
class Launch:
    """A container, before it exists.

    Attributes:
        image: the image's name.
        command: the server and its options, one word each.
        repository: absolute path of the model repository, mounted read-only at :data:`MODELS`.
        network: ``bridge`` or ``host``.
        published: ports on 127.0.0.1 by the port in the container; empty with host networking.
        shm_size_bytes: size of ``/dev/shm``.
        memory_bytes: limit on memory, swap included; ``None`` for none.
        cpus: cores that it may run on; all where empty.
        gpus: ``all``, indices or UUIDs; none where empty.
        env: variables; ``None`` where the value is the harness's own environment's.
        security: what the engine is told of security.
    """

    image: str
    command: tuple[str, ...]
    repository: Path
    network: Literal["bridge", "host"]
    published: Mapping[int, int]
    shm_size_bytes: int
    memory_bytes: int | None = None
    cpus: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    security: tuple[str, ...] = ("no-new-privileges",)

    @property
    def cpuset(self) -> str:
        """The cores as the engine reads them, such as ``0,1``."""
        return ",".join(map(str, self.cpus))

    def environment(self) -> dict[str, str]:
        """The variables with their values.

        Raises:
            UsageError: one is to be passed on and is not set.
        """
        values = {}
        for name, value in self.env.items():
            if value is None and name not in os.environ:
                raise UsageError(
                    f"the variable {name} is to be passed on to the server and is not set",
                    where="server.env",
                    remedy=f"Set it with: export {name}=…",
                )
            values[name] = os.environ[name] if value is None else value
        return values


def plan_launch(
    spec: ServerSpec, repository: Path, ports: Mapping[str, int], *, models: Sequence[str] = ()
) -> Launch:
    """Say what the container of ``spec`` is made of; nothing is started.

    Args:
        spec: as in the scenario.
        repository: the model repository.
        ports: on this machine, for ``http``, ``grpc`` and ``metrics``.
        models: what the server loads by itself; the harness loads over the control plane.

    Raises:
        UsageError: an option that is the harness's own.
    """
    on_host = spec.network == "host"
    # In a network of its own it must listen on every address of the container to be published at all.
    address = LOOPBACK if on_host else "0.0.0.0"  # noqa: S104
    listening = ports if on_host else STANDARD_PORTS
    command = [
        "tritonserver",
        f"--model-repository={MODELS}",
        *(f"--{name}-port={port}" for name, port in listening.items()),
        *server_options(spec.arguments, address=address, gpu=bool(spec.gpus)),
        *(f"--load-model={model}" for model in models),
    ]
    return Launch(
        image=spec.image or DEFAULT_IMAGE,
        command=tuple(command),
        repository=repository.resolve(),
        network=spec.network,
        published={} if on_host else {STANDARD_PORTS[name]: ports[name] for name in STANDARD_PORTS},
        shm_size_bytes=spec.shm_size_bytes,
        memory_bytes=spec.memory_bytes,
        cpus=spec.cpus,
        gpus=spec.gpus,
        env=spec.env,
        security=security_options(selinux=SELINUX.exists()),
    )


def security_options(*, selinux: bool) -> tuple[str, ...]:
    """Nothing in the container may gain rights. SELinux would keep it from reading the repository."""
    return ("no-new-privileges", "label=disable") if selinux else ("no-new-privileges",)
