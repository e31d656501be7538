"""How an exported model is to be served: the options of ``config.pbtxt`` that a user may state."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from harness.point import DynamicBatching, Frozen

__all__ = ["Backend", "GraphOptimization", "QueuePolicy", "ServingOptions", "VersionPolicy"]

Backend = Literal["python", "onnxruntime", "tensorflow", "openvino"]
GraphOptimization = Literal["all", "extended", "basic", "none"]


class QueuePolicy(Frozen):
    """``ModelQueuePolicy``: what becomes of requests that wait.

    Attributes:
        max_queue_size: most requests that may wait; 0 for no limit.
        timeout_us: after this long a request has timed out, in microseconds; 0 for never.
        timeout_action: ``reject`` what has timed out, or ``delay`` it until all others are served.
    """

    max_queue_size: NonNegativeInt = 0
    timeout_us: NonNegativeInt = 0
    timeout_action: Literal["reject", "delay"] = "reject"


class VersionPolicy(Frozen):
    """Which versions are served: the ``latest`` few, ``specific`` ones, or all if neither is given."""

    latest: PositiveInt | None = None
    specific: tuple[PositiveInt, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.latest is not None and self.specific:
            raise ValueError("give either the latest versions or specific ones, not both")
        return self


class ServingOptions(Frozen):
    """What a user states about how a model is to be served.

    Attributes:
        backend: what runs the model inside Triton.
        image: tag of the container image that it is for, such as ``25.02-py3``; ``None`` if unknown.
        max_batch_size: most inferences in one execution; ``None`` takes 64 where the model has a
            batch dimension and 0 where it has none.
        dynamic_batching: ``None`` for no dynamic batcher.
        queue_policy: how requests wait; ``None`` for Triton's own (no limit, no timeout).
        priority_levels, default_priority_level: 0 for no priorities.
        instances, kind, gpus: how many copies of the model, and where; no ``gpus`` means all.
        threads, inter_op_threads: within and across operators, per instance.
        warmup: batch sizes that every instance runs before it is ready; ``None`` takes 1, 8 and the
            maximum.
        response_cache: answer repeated inputs from Triton's cache (the server needs one too).
        version_policy: ``None`` for Triton's own (the latest version).
        graph_optimization: how far ONNX Runtime may rewrite the graph.
    """

    backend: Backend = "python"
    image: str | None = None
    max_batch_size: NonNegativeInt | None = None
    dynamic_batching: DynamicBatching | None = DynamicBatching()
    queue_policy: QueuePolicy | None = None
    priority_levels: NonNegativeInt = 0
    default_priority_level: NonNegativeInt = 0
    instances: PositiveInt = 1
    kind: Literal["cpu", "gpu"] = "cpu"
    gpus: tuple[NonNegativeInt, ...] = ()
    threads: PositiveInt = 1
    inter_op_threads: PositiveInt = 1
    warmup: tuple[PositiveInt, ...] | None = None
    response_cache: bool = False
    version_policy: VersionPolicy | None = None
    graph_optimization: GraphOptimization = "all"
