"""What a model is to the server and to the load: with the server's backend, and as a target to aim at."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.load.target import Target
from harness.servers.backend import configuration_for

if TYPE_CHECKING:
    from harness.repository.exported import ExportedModel
    from harness.servers.server import Server

__all__ = ["as_served", "model_target", "target_of"]


def as_served(model: ExportedModel, server: Server) -> ExportedModel:
    """The model with the backend that this server has.

    Raises:
        UsageError: the server has none that will do.
    """
    backends = server.describe().get("backends", ())
    return replace(
        model, configuration=configuration_for(model.configuration, model.folder, backends)
    )


def model_target(server: Server, model: ExportedModel) -> Target:
    """An exported model, with the tolerance that its precision was exported with."""
    target = target_of(server, model.name, model.configuration)
    tolerance = model.record.get("tolerance", target.tolerance)
    return replace(target, reference=model.reference, tolerance=tolerance)


def target_of(server: Server, name: str, configuration: dict[str, Any]) -> Target:
    """Any model of a server, without right answers."""
    return Target(
        http=server.endpoints.http,
        grpc=server.endpoints.grpc,
        model=name,
        batched=configuration.get("max_batch_size", 0) > 0,
        binary=server.offers.binary,
        access=server.endpoints.access,
    )
