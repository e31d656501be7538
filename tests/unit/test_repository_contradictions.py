"""What contradicts itself in a configuration is refused with the reason, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from harness.repository.contradictions import contradictions


def config(*, max_batch_size: int = 16, **changes: Any) -> dict[str, Any]:
    return {"name": "m", "backend": "python", "max_batch_size": max_batch_size, **changes}


def batcher(**changes: Any) -> dict[str, Any]:
    return config(dynamic_batching=changes)


DELAY = {"timeout_action": "DELAY", "default_timeout_microseconds": 5}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (batcher(preferred_batch_size=[8, 32]), "preferred batch size 32 is above max_batch_size 16"),
        (config(max_batch_size=0, dynamic_batching={}), "without a batch dimension"),
        (
            batcher(preserve_ordering=True, priority_levels=2, default_priority_level=1),
            "2 priority levels let requests overtake",
        ),
        (batcher(priority_levels=3), "default priority level 0 is not one of 1 to 3"),
        (
            batcher(priority_levels=3, default_priority_level=4),
            "default priority level 4 is not one of 1 to 3",
        ),
        (batcher(default_priority_level=1), "has no priority levels"),
        (
            batcher(
                priority_levels=1, default_priority_level=1, priority_queue_policy={"2": {}}
            ),
            "priority level 2 is for none of the 1 levels",
        ),
        (batcher(default_queue_policy={"timeout_action": "DELAY"}), "but has no timeout"),
        (
            batcher(preserve_ordering=True, default_queue_policy=DELAY),
            "the queue policy delays what has timed out, which cannot preserve the ordering",
        ),
        (
            batcher(
                preserve_ordering=True,
                priority_levels=1,
                default_priority_level=1,
                priority_queue_policy={"1": DELAY},
            ),
            "the queue policy of priority level 1 delays",
        ),
        (
            config(instance_group=[{"count": 1, "kind": "KIND_CPU", "gpus": [0]}]),
            "GPUs are listed, but the instances are on the CPU",
        ),
        (
            config(backend="openvino", instance_group=[{"count": 1, "kind": "KIND_GPU"}]),
            "OpenVINO backend runs on the CPU only",
        ),
        (config(model_warmup=[{"batch_size": 17}]), "warm-up batch size 17 is above"),
        (config(max_batch_size=0, model_warmup=[{"batch_size": 2}]), "warm-up batch size 2"),
    ],
)  # fmt: skip
def test_a_contradiction_is_named(asked: dict[str, Any], reason: str) -> None:
    found = contradictions(asked)
    assert len(found) == 1
    assert reason in found[0]


@pytest.mark.parametrize(
    "asked",
    [
        config(),
        config(max_batch_size=0, model_warmup=[{"batch_size": 1}]),
        batcher(preferred_batch_size=[16], preserve_ordering=True),
        batcher(priority_levels=1, default_priority_level=1, preserve_ordering=True),
        batcher(priority_levels=2, default_priority_level=2, default_queue_policy=DELAY),
        batcher(
            default_queue_policy={"timeout_action": "DELAY", "allow_timeout_override": True}
        ),
        config(instance_group=[{"count": 1, "kind": "KIND_GPU", "gpus": [0, 1]}]),
        config(model_warmup=[{"batch_size": 16}]),
    ],
)  # fmt: skip
def test_what_fits_together_is_left_alone(asked: dict[str, Any]) -> None:
    assert contradictions(asked) == ()
