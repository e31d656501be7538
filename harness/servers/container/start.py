"""A server in a container for as long as a block runs: ports, image, container, readiness, removal."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from harness.errors import EnvironmentFailedError
from harness.servers import leftovers
from harness.servers.container import engine
from harness.servers.container.create import create, main_process, start
from harness.servers.container.image import ensure_image, facts
from harness.servers.container.launch import DEFAULT_IMAGE, plan_launch
from harness.servers.container.server import ContainerServer
from harness.servers.container.watch import ContainerWatch
from harness.servers.ports import LOOPBACK, choose_ports, started
from harness.servers.server import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker import DockerClient

    from harness.scenario import ServerSpec
    from harness.servers.container.image import ImageFacts, PullProgress
    from harness.servers.leftovers import Claim

__all__ = ["prepare_image", "serving_container"]


def prepare_image(spec: ServerSpec, on_progress: Callable[[PullProgress], None]) -> None:
    """Fetch the image of ``spec`` where it is missing: minutes, which are no part of a start.

    Raises:
        EnvironmentFailedError: no container engine, or the image cannot be had.
    """
    client = engine.connect()
    try:
        ensure_image(client, spec.image or DEFAULT_IMAGE, on_progress)
    finally:
        client.close()


@contextmanager
def serving_container(
    spec: ServerSpec, repository: Path, *, logs: Path, run_id: str
) -> Iterator[ContainerServer]:
    """Run a server on ``repository`` with no model loaded; see :func:`harness.servers.start.serving`."""
    client = engine.connect()
    try:
        engine.reap(client)
        asked = {"http": spec.http_port, "grpc": spec.grpc_port, "metrics": spec.metrics_port}
        launch = plan_launch(spec, repository, asked)
        image_id = ensure_image(client, launch.image)
        image = facts(client, launch.image, image_id, run_id)
        with leftovers.claimed(run_id) as claim:
            server = started(
                lambda: _start(client, spec, repository, image, logs, run_id, claim),
                given=all(asked.values()),
            )
            try:
                yield server
            finally:
                server.stop()
                if server.removed:
                    claim.forget_container()
    finally:
        client.close()


def _start(
    client: DockerClient,
    spec: ServerSpec,
    repository: Path,
    image: ImageFacts,
    logs: Path,
    run_id: str,
    claim: Claim,
) -> ContainerServer:
    ports = _ports(client, spec)
    launch = plan_launch(spec, repository, ports)
    name = f"{leftovers.PREFIX}{run_id}-{secrets.token_hex(3)}"
    log = logs / "tritonserver.log"
    log_start = log.stat().st_size if log.exists() else 0
    with ExitStack() as undo:
        claim.add_container(engine.address(), name)
        undo.callback(_undo, client, name, claim)
        container_id = engine.uninterrupted(
            lambda: create(client, launch, image.image_id, name, engine.labels(run_id))
        )
        watch = ContainerWatch(client, container_id, log)
        undo.callback(watch.close)
        engine.uninterrupted(lambda: start(client, launch, name))
        watch.follow_log()
        endpoints = Endpoints(LOOPBACK, ports["http"], ports["grpc"], ports["metrics"])
        server = ContainerServer(
            client,
            name,
            launch,
            image,
            endpoints,
            log,
            watch,
            main_process(client, name),
            log_start,
        )
        undo.callback(server.stop)
        server.wait_ready(spec.ready_timeout_s)
        undo.pop_all()
    return server


def _undo(client: DockerClient, name: str, claim: Claim) -> None:
    if engine.remove(client, name):
        claim.forget_container()


def _ports(client: DockerClient, spec: ServerSpec) -> dict[str, int]:
    """Free ports; one that is given and taken by another container is said to be so."""
    asked = {"http": spec.http_port, "grpc": spec.grpc_port, "metrics": spec.metrics_port}
    try:
        return choose_ports(asked)
    except EnvironmentFailedError as error:
        for name, port in asked.items():
            holder = engine.publisher(client, port) if f"port {port}," in error.what else None
            if holder:
                raise EnvironmentFailedError(
                    f"port {port}, wanted for {name}, is taken by the container {holder}",
                    remedy=error.remedy,
                ) from error
        raise
