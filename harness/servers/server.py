"""What a server is to the rest: endpoints, a description, processes, and whether it still lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.access import OPEN, Access

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Endpoints", "Offers", "ProcessRole", "Server"]

ProcessRole = Literal["server", "stub"]


@dataclass(frozen=True)
class Endpoints:
    """Where a server listens, and how it lets one in.

    ``grpc_port`` and ``metrics_port`` are ``None`` where it does not offer that.
    """

    host: str
    http_port: int
    grpc_port: int | None
    metrics_port: int | None = None
    access: Access = OPEN

    @property
    def named(self) -> str:
        """The host as it stands before a port: an IPv6 address in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def http(self) -> str:
        """``host:port`` of the HTTP endpoint."""
        return f"{self.named}:{self.http_port}"

    @property
    def grpc(self) -> str | None:
        """``host:port`` of the gRPC endpoint."""
        return None if self.grpc_port is None else f"{self.named}:{self.grpc_port}"

    @property
    def metrics(self) -> str | None:
        """``host:port`` of the metrics endpoint."""
        return None if self.metrics_port is None else f"{self.named}:{self.metrics_port}"


@dataclass(frozen=True)
class Offers:
    """What a server lets us do besides inference; a Triton that is our own offers all of it.

    Attributes:
        model_control: loading, unloading and configuring models.
        configuration: reading a model's configuration back.
        statistics: cumulative counts and times of a model.
        binary: whether its HTTP endpoint takes tensors as bytes, not only as JSON.
        processes: whether its CPU and memory can be read here.
        without_control: why not, in the server's words, where there is no model control.
    """

    model_control: bool = True
    configuration: bool = True
    statistics: bool = True
    binary: bool = True
    processes: bool = True
    without_control: str = ""


class Server(Protocol):
    """A running Triton, whoever runs it: embedded, in a container, or remote."""

    @property
    def endpoints(self) -> Endpoints:
        """Where it listens."""

    @property
    def offers(self) -> Offers:
        """What it lets us do."""

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
