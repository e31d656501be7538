"""The container engine: Docker, or Podman's Docker socket. Found, asked, and its errors put into words."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import EnvironmentFailedError
from harness.servers.owner import identity, is_orphaned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient
    from docker.models.containers import Container

__all__ = [
    "LABEL_OWNER",
    "LABEL_RUN",
    "address",
    "connect",
    "engine_errors",
    "labels",
    "reap",
    "remove",
    "remove_at",
]

LABEL_RUN = "io.triton-harness.run"
LABEL_OWNER = "io.triton-harness.owner"
CALL_TIMEOUT_S = 60
REMEDY = (
    "Start Docker or Podman's socket (systemctl --user start podman.socket), set DOCKER_HOST, or use a"
    " server of kind embedded, which needs neither"
)


def address() -> str:
    """Where the engine is: ``DOCKER_HOST``, or the first of the usual sockets."""
    return os.environ.get("DOCKER_HOST") or _usual_socket()


def connect(host: str | None = None) -> DockerClient:
    """Return a client of the engine at ``host``, or where :func:`address` says.

    Raises:
        EnvironmentFailedError: there is none, it refuses, or this user may not use it.
    """
    import docker
    from docker.errors import DockerException

    host = host or address()
    try:
        return docker.from_env(
            environment={**os.environ, "DOCKER_HOST": host}, timeout=CALL_TIMEOUT_S
        )
    except (DockerException, OSError, ValueError) as error:
        raise _unusable(host, error) from error


def _usual_socket() -> str:
    """The socket of Docker, of rootless Docker, or of Podman: the first that is there."""
    user = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    usual = (
        Path("/var/run/docker.sock"),
        user / "docker.sock",
        user / "podman" / "podman.sock",
        Path("/run/podman/podman.sock"),
    )
    found = [path for path in usual if os.access(path, os.F_OK)]
    usable = [path for path in found if os.access(path, os.W_OK)]
    return f"unix://{(usable or found or usual)[0]}"


def _unusable(host: str, error: BaseException) -> EnvironmentFailedError:
    reasons = [*_chain(error)]
    if any(isinstance(reason, FileNotFoundError) for reason in reasons):
        return EnvironmentFailedError(
            "there is no container engine: nothing is at this socket", where=host, remedy=REMEDY
        )
    if any(isinstance(reason, ConnectionRefusedError) for reason in reasons):
        return EnvironmentFailedError(
            "the container engine is not running: its socket refuses", where=host, remedy=REMEDY
        )
    if any(isinstance(reason, PermissionError) for reason in reasons):
        return EnvironmentFailedError(
            "this user may not use the container engine",
            where=host,
            remedy="Join the group docker (and log in again), or use a server of kind embedded",
        )
    said = str(error).removeprefix("Error while fetching server API version: ")
    return EnvironmentFailedError(
        f"the container engine cannot be used ({said})", where=host, remedy=REMEDY
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error with all that it came from, in the causes or in the arguments."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [other for other in (one.__cause__, one.__context__, *one.args) if _is(other)]


def _is(other: object) -> bool:
    return isinstance(other, BaseException)


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn what the engine answers into ``what`` and the engine's own words.

    Raises:
        EnvironmentFailedError: the engine refused, or does not answer.
    """
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        said = " ".join((error.explanation or str(error)).split())
        raise EnvironmentFailedError(f"{what}: {said}") from error
    except (DockerException, OSError) as error:
        raise EnvironmentFailedError(
            f"{what}: the container engine does not answer ({error})", remedy=REMEDY
        ) from error


def labels(run_id: str) -> dict[str, str]:
    """The labels by which a container is known as this process's, even if it is killed."""
    return {LABEL_RUN: run_id, LABEL_OWNER: json.dumps(identity())}


def reap(client: DockerClient) -> list[str]:
    """Remove containers whose owner is dead; return what was done, one sentence each."""
    done = []
    with engine_errors("old containers cannot be looked for"):
        found = client.containers.list(all=True, filters={"label": LABEL_OWNER})
    for container in found:
        try:
            owner = json.loads(container.labels[LABEL_OWNER])
            orphaned = is_orphaned(owner) and _is_of_this_machine(owner, container)
        except (ValueError, KeyError, TypeError):
            continue
        if orphaned:
            remove(client, container.name or "")
            run_id = container.labels.get(LABEL_RUN)
            done.append(f"removed container {container.name} of run {run_id}, whose owner is dead")
    return done


def _is_of_this_machine(owner: dict[str, object], container: Container) -> bool:
    """Whether it may go: another boot may be that of another machine, which uses the engine as well.

    Then only a container that does not run is known to be nobody's.
    """
    return owner["boot"] == identity()["boot"] or container.status != "running"


def remove(client: DockerClient, name: str) -> None:
    """Remove a container and its volumes, running or not; it may be gone already."""
    from docker.errors import DockerException

    try:
        client.api.remove_container(name, v=True, force=True)
    except (DockerException, OSError):
        return


def remove_at(host: str, name: str) -> list[str]:
    """Remove the container ``name`` of the engine at ``host``; say so where there was one."""
    from docker.errors import DockerException

    try:
        client = connect(host)
    except EnvironmentFailedError:
        return []  # its containers go with the next one that is started there
    try:
        client.containers.get(name)
        remove(client, name)
    except (DockerException, OSError):
        return []
    finally:
        client.close()
    return [f"removed container {name}, whose owner was killed"]
