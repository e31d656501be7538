"""What a server is to the rest: endpoints, a description, processes, and whether it still lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Endpoints", "ProcessRole", "Server"]

ProcessRole = Literal["server", "stub"]


@dataclass(frozen=True)
class Endpoints:
    """Where a server listens. ``metrics_port`` is ``None`` where it offers no metrics."""

    host: str
    http_port: int
    grpc_port: int
    metrics_port: int | None = None

    @property
    def http(self) -> str:
        """``host:port`` of the HTTP endpoint."""
        return f"{self.host}:{self.http_port}"

    @property
    def grpc(self) -> str:
        """``host:port`` of the gRPC endpoint."""
        return f"{self.host}:{self.grpc_port}"

    @property
    def metrics(self) -> str | None:
        """``host:port`` of the metrics endpoint."""
        return None if self.metrics_port is None else f"{self.host}:{self.metrics_port}"


class Server(Protocol):
    """A running Triton, whoever runs it: embedded, in a container, or remote."""

    @property
    def endpoints(self) -> Endpoints:
        """Where it listens."""

    @property
    def log(self) -> Path | None:
        """Its log, where that can be read on this machine."""

    def describe(self) -> dict[str, Any]:
        """What it says of itself, as JSON: ``kind``, ``version``, ``extensions`` and more. No paths."""

    def processes(self) -> list[tuple[ProcessRole, int]]:
        """Its processes on this machine (role, pid), looked up at each call; empty where unknown."""

    def failure(self) -> str | None:
        """``None`` while it lives, then one sentence with the cause and the log's last lines."""

    def stop(self) -> None:
        """End it and everything it has left behind; a second call does nothing."""
