"""The embedded server: a real ``tritonserver`` process with an environment of its own, no container."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from harness import processes
from harness.errors import EnvironmentFailedError
from harness.host import require_cores
from harness.servers import leftovers
from harness.servers.embedded.environment import ServerEnvironment, find_environment
from harness.servers.embedded.memory import limited
from harness.servers.inquiry import answers, metadata
from harness.servers.ports import LOOPBACK, PortTakenError, choose_ports, started
from harness.servers.server import Endpoints, Offers
from harness.servers.triton import (
    complaint,
    ending,
    last_lines,
    server_and_stubs,
    server_options,
    starved,
    trace_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.processes import ChildProcess
    from harness.scenario import ServerSpec
    from harness.servers.embedded.memory import MemoryLimit
    from harness.servers.server import ProcessRole

__all__ = ["EmbeddedServer", "serving_embedded"]

STOP_GRACE_S = 6.0


class EmbeddedServer:
    """A ``tritonserver`` process and its Python stubs, on loopback."""

    offers = Offers()

    def __init__(
        self,
        child: ChildProcess,
        endpoints: Endpoints,
        environment: ServerEnvironment,
        options: list[str],
        cpus: tuple[int, ...],
        log_start: int = 0,
        limit: MemoryLimit | None = None,
    ) -> None:
        self._child = child
        self._endpoints = endpoints
        self._environment = environment
        self._options = options
        self._cpus = cpus
        self._log_start = log_start
        self._limit = limit
        self._stopped = False
        self._metadata: dict[str, Any] = {}

    @property
    def endpoints(self) -> Endpoints:
        """Where it listens."""
        return self._endpoints

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._child.log

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON: version and extensions as it says them, and how it was started."""
        if not self._metadata:
            self._metadata = metadata(self._endpoints)
        return {
            "kind": "embedded",
            "version": self._metadata.get("version"),
            "extensions": self._metadata.get("extensions", []),
            "python": self._environment.python_version,
            "packages": dict(self._environment.packages),
            "options": self._options,
            "cpus": list(self._cpus),
            "memory": self._limit.describe() if self._limit else None,
        }

    def processes(self) -> list[tuple[ProcessRole, int]]:
        """The server and, looked up at each call, the Python stubs that serve its models."""
        return server_and_stubs(self._child.pid) if self._child.poll() is None else []

    def failure(self) -> str | None:
        """``None`` while it lives, then one sentence with the cause and the log's last lines."""
        status = self._child.poll()
        if exhausted := self._out_of_memory(status):
            return f"{exhausted}; its log ends:\n{last_lines(self._child.log)}"
        if status is None:
            return None
        said = complaint(self._child.log, self._log_start)
        reason = f" ({said})" if said else ""
        return f"the server {ending(status)}{reason}; its log ends:\n{last_lines(self._child.log)}"

    def _out_of_memory(self, status: int | None) -> str | None:
        """What its memory limit has done to it, if anything."""
        limit = self._limit
        if limit is None:
            return None
        reached = f"the server reached its memory limit of {limit.limit_bytes >> 20} MiB"
        if limit.killed():
            victim = "one of its processes" if status is None else "it"
            return f"{reached} and the kernel ended {victim}"
        if limit.group is None and status is not None and starved(self._child.log, self._log_start):
            return f"{reached} (of address space, for each process) and {ending(status)}"
        return None

    def stop(self) -> None:
        """End it, its stubs and their shared memory; a second call does nothing."""
        if not self._stopped:
            self._child.stop(STOP_GRACE_S)
            self._stopped = True
            leftovers.remove_backend_folders()

    def wait_ready(self, deadline_s: float) -> None:
        """Wait until every endpoint answers.

        Raises:
            PortTakenError: somebody was quicker to take a port.
            EnvironmentFailedError: the server ended, or the deadline passed; with the log's last lines.
        """
        deadline = time.monotonic() + deadline_s
        while not self._answers():
            # It goes on without metrics where their port is taken.
            said = complaint(self._child.log, self._log_start)
            if what := self.failure() or (said and f"the server says: {said}"):
                failed = PortTakenError if "already in use" in what else EnvironmentFailedError
                raise failed(what)
            if time.monotonic() > deadline:
                raise EnvironmentFailedError(
                    f"the server was not ready within {deadline_s:g} s; its log ends:\n"
                    f"{last_lines(self._child.log)}"
                )
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Whether the ports are its own, not those of somebody who was quicker, and it is ready."""
        at = self._endpoints
        try:
            sockets = psutil.Process(self._child.pid).net_connections("tcp")
        except psutil.Error:
            return False
        own = {socket.laddr.port for socket in sockets if socket.status == psutil.CONN_LISTEN}
        return {at.http_port, at.grpc_port, at.metrics_port} <= own and answers(
            at, "/v2/health/ready"
        )


@contextmanager
def serving_embedded(
    spec: ServerSpec, repository: Path, *, logs: Path, run_id: str
) -> Iterator[EmbeddedServer]:
    """Run a server on ``repository`` with no model loaded; see :func:`harness.servers.start.serving`."""
    require_cores(spec.cpus, "server.cpus")
    environment = find_environment()
    gpu = Path("/dev/nvidiactl").exists()
    options = server_options(spec.arguments, address=LOOPBACK, gpu=gpu)
    wanted = {"http": spec.http_port, "grpc": spec.grpc_port, "metrics": spec.metrics_port}
    shm_prefix = f"{leftovers.PREFIX}{run_id}-{secrets.token_hex(3)}-"
    with (
        leftovers.claimed(run_id, shm_prefix=shm_prefix) as claim,
        limited(spec.memory_bytes, f"{shm_prefix}memory", claim.add_group) as limit,
    ):

        def start() -> EmbeddedServer:
            ports = choose_ports(wanted)
            endpoints = Endpoints(LOOPBACK, ports["http"], ports["grpc"], ports["metrics"])
            log = logs / "tritonserver.log"
            log_start = log.stat().st_size if log.exists() else 0
            tracing = trace_options(logs) if spec.trace else []
            child = processes.start(
                _command(environment, repository, endpoints, [*tracing, *options], shm_prefix),
                env=environment.variables(),
                log=log,
                shm_prefix=shm_prefix,
                cpus=spec.cpus,
                memory=limit.task() if limit else None,
            )
            server = EmbeddedServer(
                child, endpoints, environment, options, spec.cpus, log_start, limit
            )
            try:
                claim.add_child(child.pid)
                server.wait_ready(spec.ready_timeout_s)
            except BaseException:
                server.stop()
                raise
            return server

        server = started(start, given=all(wanted.values()))
        try:
            yield server
        finally:
            server.stop()


def _command(
    environment: ServerEnvironment,
    repository: Path,
    endpoints: Endpoints,
    options: list[str],
    shm_prefix: str,
) -> list[str]:
    return [
        os.fspath(environment.tritonserver),
        f"--model-repository={repository.absolute()}",
        f"--backend-directory={environment.backends}",
        f"--cache-directory={environment.caches}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--http-port={endpoints.http_port}",
        f"--grpc-port={endpoints.grpc_port}",
        f"--metrics-port={endpoints.metrics_port}",
        *options,
    ]
