"""What a running Triton says of itself over HTTP: statistics of a window, and the effective configuration.

For load that is sent by hand, where nobody else holds a connection to the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from tritonclient.grpc import service_pb2

from harness.errors import EnvironmentFailedError
from harness.load.metadata import ask
from harness.point import DynamicBatching, ServerConfiguration
from harness.snapshot import quickest

if TYPE_CHECKING:
    from harness.load.target import Target
    from harness.snapshot import Snapshot

__all__ = ["configuration_from", "snapshot"]


def snapshot(target: Target) -> Snapshot:
    """Take the statistics of a target's model: the quickest of up to three calls.

    Raises:
        EnvironmentFailedError: the server does not tell them, or they make no sense.
    """
    return quickest(
        lambda: ask(target.http, f"models/{target.model}/stats", target.access),
        lambda answer: _message(answer, target.http),
    )


def _message(answer: dict[str, Any], address: str) -> service_pb2.ModelStatisticsResponse:
    try:
        return json_format.ParseDict(
            answer, service_pb2.ModelStatisticsResponse(), ignore_unknown_fields=True
        )
    except json_format.ParseError as error:
        reason = str(error).partition("\n")[0][:200]
        raise EnvironmentFailedError(
            f"the server's statistics make no sense ({reason})", where=address
        ) from error


def configuration_from(model: str, effective: dict[str, Any]) -> ServerConfiguration:
    """The words of a sweep for an effective configuration, as ``/v2/models/M/config`` gives it.

    Raises:
        EnvironmentFailedError: it is not understood.
    """
    try:
        groups = effective.get("instance_group") or [{"count": 1, "kind": "KIND_CPU"}]
        gpus = sorted({int(gpu) for group in groups for gpu in group.get("gpus") or ()})
        on_gpu = any(group.get("kind") == "KIND_GPU" for group in groups)
        batching = effective.get("dynamic_batching")
        return ServerConfiguration(
            model=model,
            instances=sum(int(group.get("count", 1)) for group in groups),
            kind="gpu" if on_gpu else "cpu",
            gpus=tuple(gpus) if on_gpu else (),
            max_batch_size=int(effective.get("max_batch_size", 0)),
            dynamic_batching=None if batching is None else _batching(effective, batching),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise EnvironmentFailedError(
            f"the configuration of {model} is not understood ({error})"
        ) from error


def _batching(effective: dict[str, Any], batching: dict[str, Any]) -> DynamicBatching:
    preferred = tuple(int(size) for size in batching.get("preferred_batch_size") or ())
    # What Triton fills in where nothing was preferred.
    left_out = preferred == (int(effective.get("max_batch_size", 0)),)
    return DynamicBatching(
        max_queue_delay_us=int(batching.get("max_queue_delay_microseconds", 0)),
        preferred_batch_sizes=() if left_out else preferred,
        preserve_ordering=bool(batching.get("preserve_ordering", False)),
    )
