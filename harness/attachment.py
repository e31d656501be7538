"""A plan for a server that somebody else runs: what is there, what may be set, and what nobody will know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError, UsageError
from harness.load.byhand.server_side import configuration_from
from harness.point import ServerConfiguration
from harness.repository.exported import RECORD, ExportedModel, open_model
from harness.servers.remote.reading import HttpReading
from harness.servers.remote.server import control_of
from harness.servers.remote.survey import find_endpoints, survey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.point import Precision
    from harness.scenario import Scenario
    from harness.servers.control import Control
    from harness.servers.remote.survey import Survey

__all__ = ["Attachment", "attach"]

SERVER_AXES = ("instances", "kind", "gpus", "dynamic_batching", "max_batch_size")
TYPES = {"BYTES": "TYPE_STRING"}


@dataclass(frozen=True)
class Attachment:
    """A remote server and what is to be measured on it.

    Attributes:
        survey: what it offers.
        scenario: with the ports that were found.
        models: by name, with the configuration that they have there, where that is known.
        fixed: by model, the configuration that is there, where none can be set; empty where it can.
        notes: what the reader of a report must know, whole sentences.
    """

    survey: Survey
    scenario: Scenario
    models: Mapping[str, ExportedModel]
    fixed: Mapping[str, ServerConfiguration]
    notes: tuple[str, ...]


def attach(scenario: Scenario, models_root: Path) -> Attachment:
    """Ask the server of a scenario what it has and allows; nothing is changed there.

    Raises:
        EnvironmentFailedError: it cannot be reached, or is no server of KServe v2.
        UsageError: it does not have, or does not allow, what the scenario asks for.
    """
    _refuse_sender(scenario)
    found = survey(find_endpoints(scenario.server))
    at, offers = found.endpoints, found.offers
    if at.grpc_port is None and "grpc" in scenario.sweep.protocol:
        raise UsageError(
            f"the server {at.http} offers no gRPC",
            where=f"scenario {scenario.name}, sweep.protocol",
            remedy="Measure http alone, or give server.grpc_port",
        )
    ports = {"http_port": at.http_port, "grpc_port": at.grpc_port or 0}
    server = scenario.server.model_copy(update=ports)
    scenario = scenario.model_copy(update={"server": server})
    models, fixed = {}, {}
    with control_of(at) as control:
        for name, precision in scenario.variants.items():
            local = _local(models_root, name, precision)
            there = _there(found, control, name, max(scenario.sweep.batch_size))
            models[name] = _model(models_root, name, local, there, at.http)
            if not offers.model_control:
                fixed[name] = _as_found(
                    name, models[name].configuration, known=offers.configuration
                )
    for name, configuration in fixed.items():
        _refuse_axes(scenario, name, configuration, found)
    return Attachment(found, scenario, models, fixed, (_note(found, models),))


def _refuse_sender(scenario: Scenario) -> None:
    """``tritonclient.http`` reads an answer however long it is and takes: no match for somebody else's server."""
    if scenario.measure.sender == "tritonclient" and "http" in scenario.sweep.protocol:
        raise UsageError(
            "tritonclient bounds neither the size nor the time of an answer over HTTP, so it is not sent with"
            " to a server that somebody else runs",
            where=f"scenario {scenario.name}, measure.sender",
            remedy="Say sender: raw, or protocol: grpc",
        )


def _local(root: Path, name: str, precision: Precision | None) -> ExportedModel | None:
    """The model as exported here; ``None`` where it was not."""
    return open_model(root, name, precision) if (root / name / RECORD).is_file() else None


def _there(
    found: Survey, control: Control | HttpReading, name: str, largest_batch: int
) -> dict[str, Any] | None:
    """The model's configuration on the server, or as much of it as its tensors say.

    ``None`` of one that is not loaded, and may be.

    Raises:
        UsageError: it is not served, and cannot be loaded.
    """
    try:
        if found.offers.configuration:
            return control.effective_configuration(name)
        return _from_metadata(HttpReading(found.endpoints).metadata(name), name, largest_batch)
    except EnvironmentFailedError as error:
        if found.offers.model_control:
            return None
        raise UsageError(
            f"the server does not serve the model {name} ({error.what})",
            where=found.endpoints.http,
            remedy="Name a model that it serves",
        ) from error


def _from_metadata(said: dict[str, Any], name: str, largest_batch: int) -> dict[str, Any]:
    """A configuration with a model's tensors (KServe v2); their first axis is the batch if it is free."""
    try:
        sides = [
            [(str(t["name"]), str(t["datatype"]), [int(d) for d in t["shape"]]) for t in said[side]]
            for side in ("inputs", "outputs")
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise EnvironmentFailedError(f"the metadata of {name} makes no sense") from error
    shapes = [shape for side in sides for _, _, shape in side]
    batched = bool(shapes) and all(shape[:1] == [-1] for shape in shapes)
    tensors = [
        [
            {
                "name": tensor,
                "data_type": TYPES.get(datatype, f"TYPE_{datatype}"),
                "dims": shape[1:] if batched else shape,
            }
            for tensor, datatype, shape in side
        ]
        for side in sides
    ]
    limit = largest_batch if batched else 0
    return {"name": name, "max_batch_size": limit, "input": tensors[0], "output": tensors[1]}


def _model(
    root: Path,
    name: str,
    local: ExportedModel | None,
    there: dict[str, Any] | None,
    address: str,
) -> ExportedModel:
    """The model as it is measured: configured as it is there, with the reference from here."""
    if local is None:
        if there is None:
            raise UsageError(
                f"the model {name} is not loaded on the server, and was not exported here",
                where=address,
                remedy="Load it there, or export it here, so that its tensors are known",
            )
        return ExportedModel(name, root / name, there, {}, None)
    if there is None:
        return local
    for side in ("input", "output"):
        here = {tensor["name"]: tensor["data_type"] for tensor in local.configuration.get(side, ())}
        other = {tensor["name"]: tensor["data_type"] for tensor in there.get(side, ())}
        if here != other:
            raise UsageError(
                f"the model {name} on the server is another one than the one that was exported here: its"
                f" {side}s are {_listed(other)}, not {_listed(here)}",
                where=address,
                remedy="Name another model, or another folder with --models",
            )
    return replace(local, configuration=there)


def _listed(tensors: Mapping[str, str]) -> str:
    return ", ".join(f"{name[:80]} ({kind[:20]})" for name, kind in sorted(tensors.items())[:8])


def _as_found(name: str, configuration: dict[str, Any], *, known: bool) -> ServerConfiguration:
    if known:
        return configuration_from(name, configuration)
    limit = configuration["max_batch_size"]
    return ServerConfiguration(model=name, max_batch_size=limit, as_found=True)


def _refuse_axes(scenario: Scenario, name: str, there: ServerConfiguration, found: Survey) -> None:
    """A server axis that was given must be what is there, since nothing else can be measured."""
    sweep = scenario.sweep
    for axis in SERVER_AXES:
        if axis not in sweep.model_fields_set:
            continue
        asked, has = getattr(sweep, axis), getattr(there, axis)
        if not there.as_found and tuple(asked or ()) == (has,):
            continue
        raise UsageError(
            f"the server does not let the model {name} be configured ({found.offers.without_control})",
            where=f"scenario {scenario.name}, sweep.{axis}",
            remedy="Leave instances, dynamic_batching and max_batch_size out: what is there is measured",
        )


def _note(found: Survey, models: Mapping[str, ExportedModel]) -> str:
    """One paragraph of all that cannot be had from this server."""
    offers = found.offers
    unknown = ["the server's CPU and memory"]
    if not offers.statistics:
        unknown += ["queue and compute times", "executed batch sizes"]
        unknown += ["whether client and server count the same requests"]
    said = [f"The server is run by somebody else. Not known: {', '.join(unknown)}."]
    if not offers.model_control:
        said.append(
            "Its models cannot be configured"
            f" ({offers.without_control.rstrip('.')}), so the configuration that is there was measured."
        )
    bare = [name for name, model in models.items() if model.reference is None]
    if bare:
        said.append(
            f"Of {', '.join(bare)} no right answers are known: answers were checked for shape, size and"
            " finite values alone."
        )
    return " ".join(said)
