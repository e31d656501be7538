"""What in a model configuration contradicts itself, and why.

The rules are Triton's (``ValidateModelConfig`` in ``model_config_utils.cc`` of
triton-inference-server/core) and those of the backends; they are checked here so that a wrong
combination is refused before anything is written or started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["contradictions"]


def contradictions(config: dict[str, Any]) -> tuple[str, ...]:
    """Say what cannot be so in ``config``; empty where it is consistent.

    Args:
        config: a model configuration in canonical JSON form.

    Returns:
        One sentence a contradiction, without its full stop.
    """
    return (*_batching(config), *_instances(config), *_warmup(config))


def _batching(config: dict[str, Any]) -> Iterator[str]:
    largest = config["max_batch_size"]
    batcher = config.get("dynamic_batching")
    if batcher is None:
        return
    if largest == 0:
        yield "a model without a batch dimension (max_batch_size 0) cannot be batched dynamically"
    for size in batcher.get("preferred_batch_size", []):
        if size < 1:
            yield f"the preferred batch size {size} is below 1"
        elif 0 < largest < size:
            yield f"the preferred batch size {size} is above max_batch_size {largest}"
    yield from _priorities(batcher)
    policies = {
        "the queue policy": batcher.get("default_queue_policy", {}),
        **{
            f"the queue policy of priority level {level}": policy
            for level, policy in batcher.get("priority_queue_policy", {}).items()
        },
    }
    for name, policy in policies.items():
        delays = policy.get("timeout_action") == "DELAY"
        timeout = policy.get("default_timeout_microseconds", 0)
        if delays and not timeout and not policy.get("allow_timeout_override"):
            yield f"{name} delays what has timed out, but has no timeout"
        if delays and timeout and batcher.get("preserve_ordering"):
            yield f"{name} delays what has timed out, which cannot preserve the ordering"


def _priorities(batcher: dict[str, Any]) -> Iterator[str]:
    levels = batcher.get("priority_levels", 0)
    default = batcher.get("default_priority_level", 0)
    if batcher.get("preserve_ordering") and levels > 1:
        yield f"{levels} priority levels let requests overtake, which cannot preserve the ordering"
    if levels and not 1 <= default <= levels:
        yield f"the default priority level {default} is not one of 1 to {levels}"
    if not levels and default:
        yield f"the default priority level {default} has no priority levels to be one of"
    for level in batcher.get("priority_queue_policy", {}):
        if not 1 <= int(level) <= levels:
            yield f"the queue policy of priority level {level} is for none of the {levels} levels"


def _instances(config: dict[str, Any]) -> Iterator[str]:
    for group in config.get("instance_group", []):
        kind = group.get("kind", "KIND_AUTO")
        if group.get("gpus") and kind == "KIND_CPU":
            yield "GPUs are listed, but the instances are on the CPU"
        if kind == "KIND_GPU" and config.get("backend") == "openvino":
            yield "Triton's OpenVINO backend runs on the CPU only"


def _warmup(config: dict[str, Any]) -> Iterator[str]:
    largest = max(config["max_batch_size"], 1)
    for sample in config.get("model_warmup", []):
        if sample.get("batch_size", 0) > largest:
            yield (
                f"the warm-up batch size {sample['batch_size']} is above what the model takes"
                f" ({largest})"
            )
