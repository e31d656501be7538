"""What a scenario turns on in every model's configuration: response cache and rate limiter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.repository.protobuf import canonical

if TYPE_CHECKING:
    from harness.server_spec import ServerSpec

__all__ = ["with_features"]


def with_features(config: dict[str, Any], spec: ServerSpec) -> dict[str, Any]:
    """Return ``config`` with what ``spec`` turns on.

    Args:
        config: a model configuration as JSON with the proto's names.
        spec: the scenario's server.
    """
    config = dict(config)
    if spec.response_cache_bytes is not None:
        config["response_cache"] = {"enable": True}
    if (limiter := spec.rate_limiter) is not None:
        resources = [{"name": name, "count": count} for name, count in limiter.resources.items()]
        asked = {"resources": resources, "priority": limiter.priority}
        groups = config.get("instance_group", [])
        config["instance_group"] = [{**group, "rate_limiter": asked} for group in groups]
    return canonical(config)
