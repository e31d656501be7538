"""From tensors and options to a model configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.repository.contradictions import contradictions
from harness.repository.options import GRAPH_LEVELS
from harness.repository.protobuf import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.repository.graph import Graph
    from harness.repository.options import ServingOptions
    from harness.repository.tensors import TensorSpec

__all__ = ["DEFAULT_MAX_BATCH_SIZE", "build_configuration", "resolve_max_batch_size"]

DEFAULT_MAX_BATCH_SIZE = 64
DEFAULT_WARMUP = (1, 8)  # and the maximum


def resolve_max_batch_size(graph: Graph, options: ServingOptions) -> int:
    """Return the maximum batch size to export with; 0 where the model has no batch dimension.

    Raises:
        UsageError: batching is asked for, and the first dimension of a tensor is fixed.
    """
    fixed = graph.unbatchable
    asked = options.max_batch_size
    if asked is None:
        return DEFAULT_MAX_BATCH_SIZE if fixed is None else 0
    if asked > 0 and fixed is not None:
        raise UsageError(
            f"max_batch_size {asked} needs a dynamic first dimension, but that of {fixed.label}"
            " is fixed",
            where=str(graph.path),
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
    config: dict[str, Any] = {
        "name": name,
        "backend": options.backend,
        "max_batch_size": max_batch_size,
        "input": [_tensor(spec, batched=batched) for spec in inputs],
        "output": [_tensor(spec, batched=batched) for spec in outputs],
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
    level = GRAPH_LEVELS[options.graph_optimization]
    if level is not None:
        config["optimization"] = {"graph": {"level": level}}
    config = canonical(config)
    if found := contradictions(config):
        raise UsageError(found[0], where=f"model {name}")
    return config


def _tensor(spec: TensorSpec, *, batched: bool) -> dict[str, Any]:
    dims = list(spec.dims[1:] if batched else spec.dims)
    tensor: dict[str, Any] = {"name": spec.name, "data_type": spec.data_type, "dims": dims}
    if not dims:  # Triton knows no empty dims: a label per example goes as [1] and is reshaped
        tensor |= {"dims": [1], "reshape": {"shape": []}}
    return tensor


def _parameters(options: ServingOptions) -> dict[str, Any]:
    """Thread counts under the names that each backend reads."""
    names = {
        "python": ("intra_op_thread_count", "inter_op_thread_count"),
        "onnxruntime": ("intra_op_thread_count", "inter_op_thread_count"),
        "tensorflow": ("TF_NUM_INTRA_THREADS", "TF_NUM_INTER_THREADS"),
        "openvino": ("INFERENCE_NUM_THREADS", None),
    }
    intra, inter = names[options.backend]
    values = {intra: options.threads} | ({inter: options.inter_op_threads} if inter else {})
    return {key: {"string_value": str(value)} for key, value in values.items()}


def _warmup(
    inputs: Sequence[TensorSpec],
    options: ServingOptions,
    max_batch_size: int,
    example_shapes: Mapping[str, tuple[int, ...]],
) -> list[dict[str, Any]]:
    """Zeros: Triton's random data are random bytes, so NaN in floats and no valid index in integers."""
    sizes = options.warmup
    if sizes is None:
        largest = max(max_batch_size, 1)
        sizes = tuple(sorted({size for size in DEFAULT_WARMUP if size < largest} | {largest}))
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
        for size in sizes
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
