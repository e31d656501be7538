"""The container engine: Docker, or Podman's Docker socket. Found, asked, and its errors put into words."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.errors import EnvironmentFailedError
from harness.servers.owner import identity, is_orphaned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker import DockerClient
    from docker.models.containers import Container

__all__ = [
    "LABEL_OWNER",
    "LABEL_RUN",
    "address",
    "connect",
    "describe",
    "engine_errors",
    "labels",
    "publisher",
    "reap",
    "remove",
    "remove_at",
    "stop",
    "uninterrupted",
]

DOCKER_SOCKET = Path("/var/run/docker.sock")
LABEL_RUN = "io.triton-harness.run"
LABEL_OWNER = "io.triton-harness.owner"
CALL_TIMEOUT_S = 60
REMOVALS = 4
REMOVAL_PAUSE_S = 0.3  # before the second one; then twice, then three times as long
AnswerT = TypeVar("AnswerT")
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
    if host.startswith("unix://"):
        _probe(host)
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
        DOCKER_SOCKET,
        user / "docker.sock",
        user / "podman" / "podman.sock",
        Path("/run/podman/podman.sock"),
    )
    found = [path for path in usual if os.access(path, os.F_OK)]
    usable = [path for path in found if os.access(path, os.W_OK)]
    return f"unix://{(usable or found or usual)[0]}"


def _probe(host: str) -> None:
    """Knock at a socket: the SDK says less of why it does not open.

    Raises:
        EnvironmentFailedError: nothing is there, it refuses, or this user may not use it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CALL_TIMEOUT_S)
        try:
            probe.connect(host.removeprefix("unix://"))
        except FileNotFoundError as error:
            raise EnvironmentFailedError(
                "there is no container engine: nothing is at this socket", where=host, remedy=REMEDY
            ) from error
        except ConnectionRefusedError as error:
            raise EnvironmentFailedError(
                "the container engine is not running: its socket refuses", where=host, remedy=REMEDY
            ) from error
        except PermissionError as error:
            raise EnvironmentFailedError(
                "this user may not use the container engine",
                where=host,
                remedy="Join the group docker (and log in again), or use a server of kind embedded",
            ) from error
        except OSError as error:
            raise _unusable(host, error) from error


def _unusable(host: str, error: BaseException) -> EnvironmentFailedError:
    said = str(error).removeprefix("Error while fetching server API version: ")
    return EnvironmentFailedError(
        f"the container engine cannot be used ({said})", where=host, remedy=REMEDY
    )


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn what the engine answers into ``what`` and the engine's own words.

    Raises:
        EnvironmentFailedError: the engine refused, or does not answer.
    """
    from docker.errors import APIError, DockerException
    from urllib3.exceptions import HTTPError  # which the SDK lets through while it reads a stream

    try:
        yield
    except APIError as error:
        said = " ".join((error.explanation or str(error)).split())
        raise EnvironmentFailedError(f"{what}: {said}") from error
    except (DockerException, OSError, HTTPError) as error:
        raise EnvironmentFailedError(
            f"{what}: the container engine does not answer ({error})", remedy=REMEDY
        ) from error


def uninterrupted(call: Callable[[], AnswerT]) -> AnswerT:
    """Let a call to the engine end before an interrupt is heeded, for up to :data:`CALL_TIMEOUT_S`.

    Else a container that is being made would come to be after the clean-up has looked for it.
    """
    answer: Future[AnswerT] = Future()

    def run() -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            answer.set_exception(error)

    try:
        # An interrupt may come while it starts, too: then the call is never made, or waited for.
        threading.Thread(target=run, name="engine", daemon=True).start()
        return answer.result()
    except BaseException:
        if not answer.cancel():
            wait([answer], CALL_TIMEOUT_S)
        raise


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


def remove(client: DockerClient, name: str) -> bool:
    """Remove a container and its volumes, running or not; return whether it has gone.

    An engine that is busy may refuse for a moment, so it is asked up to :data:`REMOVALS` times; one that does
    not answer is not.
    """
    from docker.errors import APIError, DockerException, NotFound

    for attempt in range(REMOVALS):
        time.sleep(attempt * REMOVAL_PAUSE_S)
        try:
            client.api.remove_container(name, v=True, force=True)
        except NotFound:
            return True
        except APIError:
            continue
        except (DockerException, OSError):
            return False
        return True
    return False


def stop(client: DockerClient, name: str, grace_s: int) -> None:
    """End a container's main process: SIGTERM, up to ``grace_s`` seconds, then SIGKILL."""
    from docker.errors import DockerException

    with contextlib.suppress(DockerException, OSError):
        client.api.stop(name, timeout=grace_s)


def describe(client: DockerClient) -> str:
    """The engine's name and version, such as ``Docker 28.2.2``; empty where it does not say."""
    from docker.errors import DockerException

    try:
        version = client.version()
    except (DockerException, OSError):
        return ""
    parts = [str(part.get("Name")) for part in version.get("Components") or []]
    name = "Podman" if any("podman" in part.lower() for part in parts) else "Docker"
    return f"{name} {version.get('Version', '')}".strip()


def publisher(client: DockerClient, port: int) -> str | None:
    """The name of the container that publishes ``port`` of this machine; ``None`` where none does."""
    from docker.errors import DockerException

    try:
        containers = client.containers.list()
    except (DockerException, OSError):
        return None
    for container in containers:
        bindings = [one for some in (container.ports or {}).values() for one in some or []]
        if str(port) in {binding.get("HostPort") for binding in bindings}:
            return container.name
    return None


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
