"""The server in a container of Docker or Podman: asked, watched, and removed without a trace."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import psutil

from harness import processes
from harness.errors import EnvironmentFailedError
from harness.servers.container import engine
from harness.servers.inquiry import answers, metadata
from harness.servers.ports import PortTakenError
from harness.servers.server import Endpoints, Offers, ProcessRole
from harness.servers.triton import complaint, ending, lives, server_and_stubs

if TYPE_CHECKING:
    from pathlib import Path

    from docker import DockerClient

    from harness.servers.container.image import ImageFacts
    from harness.servers.container.launch import Launch
    from harness.servers.container.watch import ContainerWatch

__all__ = ["ContainerServer"]

STOP_GRACE_S = 8
INSPECT_EVERY_S = 2.0  # where no event tells
# A restart ends the container first. So long it is waited for that one that was stopped runs again.
RESTART_S = 2.0
RESTART_PAUSE_S = 0.1
LAST_LINES = 20
SIGNALLED = 128  # a status above it: the main process was ended by a signal


@dataclass
class ContainerServer:
    """A ``tritonserver`` in a container, with its Python stubs.

    Attributes:
        client: the engine.
        name: of the container.
        launch: what it was made of.
        image: what its image is.
        endpoints: where it listens, on loopback.
        log: the file that its output goes to.
        watch: what is seen of it.
        main: its main process, where this machine's process numbers hold it.
        log_start: size of the log when it was started.
        removed: whether the container has gone for certain.
    """

    client: DockerClient
    name: str
    launch: Launch
    image: ImageFacts
    endpoints: Endpoints
    log: Path
    watch: ContainerWatch
    main: psutil.Process | None
    log_start: int
    removed: bool = False
    _metadata: dict[str, Any] = field(default_factory=dict)
    _failed: str | None = None
    _inspected_s: float = 0.0
    _stopped: bool = False
    offers: ClassVar[Offers] = Offers()

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON: version and extensions as it says them, and what it was started with."""
        if not self._metadata:
            self._metadata = metadata(self.endpoints)
        launch = self.launch
        return {
            "kind": "container",
            "version": self._metadata.get("version"),
            "extensions": self._metadata.get("extensions", []),
            "image": self.image.name,
            "image_id": self.image.image_id,
            "image_digest": self.image.digest,
            "release": self.image.release,
            "backends": list(self.image.backends),
            "engine": engine.describe(self.client),
            "network": launch.network,
            "shm_size_bytes": launch.shm_size_bytes,
            "memory_bytes": launch.memory_bytes,
            "gpus": list(launch.gpus),
            "env": sorted(launch.env),  # names alone: a value may be a secret
            "options": list(launch.command[1:]),
            "cpus": list(launch.cpus),
        }

    def processes(self) -> list[tuple[ProcessRole, int]]:
        """The server and its Python stubs, looked up at each call; empty where they are not seen here."""
        return [] if self.main is None else server_and_stubs(self.main.pid)

    def failure(self) -> str | None:
        """``None`` while it lives, then one sentence with the cause and the log's last lines."""
        if self._failed is None and not self._stopped:
            self._failed = self._find_failure()
        return self._failed

    def stop(self) -> None:
        """End the server in order, and remove the container; a second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        engine.stop(self.client, self.name, STOP_GRACE_S)
        self.watch.log_whole()
        self.removed = engine.remove(self.client, self.name)
        self.watch.close()

    def wait_ready(self, deadline_s: float) -> None:
        """Wait until every endpoint answers.

        Raises:
            EnvironmentFailedError: the server ended, or the deadline passed; with the log's last lines.
        """
        deadline = time.monotonic() + deadline_s
        while not self._answers():
            failure, said = self.failure(), complaint(self.log, self.log_start)
            # It goes on without metrics where their port is taken.
            if failure or said:
                failed = PortTakenError if "already in use" in said else EnvironmentFailedError
                raise failed(failure or f"the server says: {said}")
            if time.monotonic() > deadline:
                raise EnvironmentFailedError(
                    f"the server in the container was not ready within {deadline_s:g} s;"
                    f" its log ends:\n{self._last_lines()}"
                )
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Whether it is ready, and on the host's network the ports are its own."""
        at = self.endpoints
        if not answers(at, "/v2/health/ready"):
            return False
        if self.launch.network == "host" and self.main is not None:
            try:
                sockets = self.main.net_connections("tcp")
            except psutil.Error:
                return False
            own = {socket.laddr.port for socket in sockets if socket.status == psutil.CONN_LISTEN}
            return {at.http_port, at.grpc_port, at.metrics_port} <= own
        # A published port accepts before anybody listens behind it. gRPC starts before HTTP, metrics last.
        return at.metrics_port is None or answers(
            Endpoints(at.host, at.metrics_port, at.grpc_port), "/metrics"
        )

    def _find_failure(self) -> str | None:
        watch, limit = self.watch, _mebibytes(self.launch.memory_bytes)
        if watch.out_of_memory.is_set():
            watch.ended.wait(0.5)
            victim = "the server" if watch.ended.is_set() else "a process of the server"
            return (
                f"the container reached its memory limit{limit} and the kernel ended {victim};"
                f" its log ends:\n{self._last_lines()}"
            )
        now = time.monotonic()
        doubtful = not watch.listening and now - self._inspected_s > INSPECT_EVERY_S
        if not watch.ended.is_set() and not doubtful and (self.main is None or lives(self.main)):
            return None
        self._inspected_s = now
        watch.ended.wait(INSPECT_EVERY_S if watch.listening else 0)
        return self._ending(limit)

    def _ending(self, limit: str) -> str | None:
        """Ask the engine how the container ended, if it has."""
        from docker.errors import DockerException, NotFound

        try:
            state = self._settled_state()
        except NotFound:
            state = {"Status": "removing"}
        except (DockerException, OSError) as error:
            if self.main is not None and lives(self.main):
                return None
            return f"the container engine does not answer any more ({error})"
        if state.get("Running"):
            pid = self.main.pid if self.main is not None else state.get("Pid")
            if state.get("Pid") == pid and not self.watch.ended.is_set():
                return None
        return self._cause(state, limit)

    def _cause(self, state: dict[str, Any], limit: str) -> str:
        """Say how the container ended, of which the engine says ``state``."""
        by_somebody_else = f"the server's container {self.name} was %s by somebody else"
        if state.get("Running"):
            return by_somebody_else % "restarted"
        if state.get("Status") == "removing":
            return by_somebody_else % "removed"
        self.watch.log_whole()
        if state.get("OOMKilled") or self.watch.out_of_memory.is_set():
            cause = f"reached the container's memory limit{limit} and was ended by the kernel"
        elif self.watch.killed.is_set():
            return by_somebody_else % "stopped"
        else:
            status = int(state.get("ExitCode") or 0)
            said = complaint(self.log, self.log_start)
            cause = ending(SIGNALLED - status if status > SIGNALLED else status)
            cause += f" ({said})" if said else ""
        return f"the server in the container {cause}; its log ends:\n{self._last_lines()}"

    def _settled_state(self) -> dict[str, Any]:
        """What the engine says of the container, once it is known whether somebody stopped or restarted it.

        Raises:
            NotFound: it was removed.
            DockerException, OSError: the engine does not answer.
        """
        deadline = time.monotonic() + RESTART_S
        while True:
            late = time.monotonic() > deadline
            state: dict[str, Any] = self.client.api.inspect_container(self.name)["State"]
            stopped = self.watch.killed.is_set() and state.get("Status") == "exited"
            if late or not stopped:
                return state
            time.sleep(RESTART_PAUSE_S)

    def _last_lines(self) -> str:
        return processes.log_tail(self.log, LAST_LINES)


def _mebibytes(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f" of {size_bytes / (1 << 20):.0f} MiB"
