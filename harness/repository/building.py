"""From tensors and options to a model configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.point import DynamicBatching
from harness.repository.contradictions import contradictions
from harness.repository.formats import FORMATS, GRAPH_LEVELS
from harness.repository.protobuf import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.repository.graph import Graph
    from harness.repository.options import ServingOptions
    from harness.repository.tensors import TensorSpec

__all__ = ["DEFAULT_MAX_BATCH_SIZE", "build_configuration", "resolve_max_batch_size"]

DEFAULT_MAX_BATCH_SIZE = 64
DEFAULT_WARMUP = (1, 8)  # and the maximum


def resolve_max_batch_size(graph: Graph, asked: int | None) -> int:
    """Return the maximum batch size to export with; 0 where the model has no batch dimension.

    Args:
        graph: the model.
        asked: what the user asks for; ``None`` for the default.

    Raises:
        UsageError: batching is asked for, and the first dimension of a tensor is fixed.
    """
    fixed = graph.unbatchable
    if asked is None:
        return DEFAULT_MAX_BATCH_SIZE if fixed is None else 0
    if asked > 0 and fixed is not None:
        raise UsageError(
            f"max_batch_size {asked} needs a dynamic first dimension, but that of {fixed.label}"
            " is fixed",
            where=graph.origin,
            remedy="Convert the model with a dynamic batch dimension, or export with"
            " --max-batch-size 0",
        )
    return asked


def build_configuration(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    options: ServingOptions,
    *,
    max_batch_size: int,
    example_shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Any]:
    """Return the model configuration in canonical JSON form.

    Args:
        name: the model's name.
        inputs: what goes in, batch dimension included.
        outputs: what comes out, alike.
        options: how it is to be served.
        max_batch_size: as resolved; 0 for a model without a batch dimension.
        example_shapes: shape of one example of each input, for warm-up; without the batch dimension.

    Raises:
        UsageError: the options contradict each other, with the reason.
    """
    batched = max_batch_size > 0
    _check_scheduling(name, options, batched=batched)
    config: dict[str, Any] = {
        "name": name,
        "backend": options.backend,
        "max_batch_size": max_batch_size,
        "input": [_tensor(name, spec, batched=batched) for spec in inputs],
        "output": [_tensor(name, spec, batched=batched) for spec in outputs],
        "instance_group": [
            {"count": options.instances, "kind": f"KIND_{options.kind.upper()}"}
            | ({"gpus": list(options.gpus)} if options.gpus else {})
        ],
        "parameters": _parameters(options),
        "model_warmup": _warmup(inputs, options, max_batch_size, example_shapes),
    }
    if batched and options.dynamic_batching is not None:
        config["dynamic_batching"] = _batcher(options)
    if options.response_cache:
        config["response_cache"] = {"enable": True}
    if options.version_policy is not None:
        config["version_policy"] = _versions(options)
    known = FORMATS[options.backend]
    if known.platform is not None:
        config["platform"] = known.platform
    if known.states_filename:
        config["default_model_filename"] = known.weights
    level = GRAPH_LEVELS[options.graph_optimization]
    if level is not None:
        config["optimization"] = {"graph": {"level": level}}
    config = canonical(config)
    if found := contradictions(config):
        raise UsageError(
            found[0], where=f"model {name}", remedy="Change one of the two, or leave it out"
        )
    return config


def _check_scheduling(name: str, options: ServingOptions, *, batched: bool) -> None:
    where = f"model {name}"
    if not batched and options.dynamic_batching not in (None, DynamicBatching()):
        raise UsageError(
            "a model without a batch dimension (max_batch_size 0) cannot be batched dynamically",
            where=where,
            remedy="Leave the options of dynamic batching out",
        )
    queues = options.queue_policy is not None or options.priority_levels > 0
    if queues and not (batched and options.dynamic_batching is not None):
        raise UsageError(
            "queue policies and priority levels belong to the dynamic batcher, and there is none",
            where=where,
            remedy="Leave them out, or export with dynamic batching",
        )


def _tensor(name: str, spec: TensorSpec, *, batched: bool) -> dict[str, Any]:
    dims = list(spec.dims[1:] if batched else spec.dims)
    tensor: dict[str, Any] = {"name": spec.name, "data_type": spec.data_type, "dims": dims}
    if not dims and not batched:
        raise UsageError(
            f"the tensor {spec.name} is a scalar, and Triton serves none",
            where=f"model {name}",
            remedy="Convert the model with a dimension of 1 there",
        )
    if not dims:  # Triton knows no empty dims: one value an example goes as [1] and is reshaped
        tensor |= {"dims": [1], "reshape": {"shape": []}}
    return tensor


def _parameters(options: ServingOptions) -> dict[str, Any]:
    """Thread counts under the names that the backend reads, and what else it needs."""
    known = FORMATS[options.backend]
    values = {known.intra_threads: str(options.threads), **dict(known.parameters)}
    if known.inter_threads is not None:
        values[known.inter_threads] = str(options.inter_op_threads)
    return {key: {"string_value": value} for key, value in values.items()}


def _warmup(
    inputs: Sequence[TensorSpec],
    options: ServingOptions,
    max_batch_size: int,
    example_shapes: Mapping[str, tuple[int, ...]],
) -> list[dict[str, Any]]:
    """Zeros: Triton's random data are random bytes, so NaN in floats and no valid index in integers."""
    largest = max(max_batch_size, 1)
    sizes = options.warmup
    if sizes is None:
        sizes = (*(size for size in DEFAULT_WARMUP if size < largest), largest)
    return [
        {
            "name": f"batch_{size}",
            "batch_size": size,
            "count": 1,
            "inputs": {
                spec.name: {
                    "data_type": spec.data_type,
                    "dims": list(example_shapes[spec.name]) or [1],
                    "zero_data": True,
                }
                for spec in inputs
            },
        }
        for size in sorted(set(sizes))
    ]


def _batcher(options: ServingOptions) -> dict[str, Any]:
    batching = options.dynamic_batching
    if batching is None:
        return {}
    batcher: dict[str, Any] = {
        "max_queue_delay_microseconds": batching.max_queue_delay_us,
        "preferred_batch_size": list(batching.preferred_batch_sizes),
        "preserve_ordering": batching.preserve_ordering,
        "priority_levels": options.priority_levels,
        "default_priority_level": options.default_priority_level,
    }
    if options.queue_policy is not None:
        batcher["default_queue_policy"] = {
            "timeout_action": options.queue_policy.timeout_action.upper(),
            "default_timeout_microseconds": options.queue_policy.timeout_us,
            "max_queue_size": options.queue_policy.max_queue_size,
        }
    return batcher


def _versions(options: ServingOptions) -> dict[str, Any]:
    policy = options.version_policy
    if policy is not None and policy.specific:
        return {"specific": {"versions": list(policy.specific)}}
    if policy is not None and policy.latest is not None:
        return {"latest": {"num_versions": policy.latest}}
    return {"all": {}}
