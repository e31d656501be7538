"""Which counters and gauges can be read beside a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.servers.container.server import ContainerServer
from harness.servers.readings.cgroup import ContainerUsage
from harness.servers.readings.energy import find_rapl
from harness.servers.readings.metrics import TritonMetrics
from harness.servers.readings.nvml import find_nvml

if TYPE_CHECKING:
    from collections.abc import Collection

    from harness.servers.readings.metric_log import Source
    from harness.servers.server import Server

__all__ = ["sources_of"]


def sources_of(server: Server, models: Collection[str]) -> list[Source]:
    """Everything that can be read beside ``server``, of which nothing has to be there.

    Args:
        server: it runs.
        models: the models whose metrics matter.
    """
    found: list[Source | None] = []
    if server.endpoints.metrics is not None:
        found.append(TritonMetrics(server.endpoints.metrics, models))
    if isinstance(server, ContainerServer):
        found.append(_container(server))
    # The counters of this machine say nothing of a server that may run on another one.
    if server.describe()["kind"] != "remote":
        found += [find_rapl(), find_nvml()]
    return [source for source in found if source is not None]


def _container(server: ContainerServer) -> ContainerUsage:
    def ask() -> dict[str, Any]:
        answer: dict[str, Any] = server.client.api.stats(server.name, stream=False, one_shot=True)
        return answer

    return ContainerUsage(server.main.pid if server.main else None, ask)
