from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from harness.servers.configuration import from_message


def test_integers_are_integers_and_texts_stay_texts() -> None:
    config = pb.ModelConfig(name="m", max_batch_size=8)
    config.input.add(name="x", dims=[-1, 28], data_type=pb.TYPE_FP32)
    config.instance_group.add(count=2, kind=pb.ModelInstanceGroup.KIND_CPU, gpus=[0, 1])
    config.dynamic_batching.max_queue_delay_microseconds = 1 << 60
    config.dynamic_batching.priority_queue_policy[3].default_timeout_microseconds = 5
    config.parameters["sleep_us"].string_value = "20"
    config.metric_tags["tag"] = "7"
    warmup = config.model_warmup.add(name="w", batch_size=4)
    warmup.inputs["x"].dims.extend([28, 28])
    assert from_message(config) == {
        "name": "m",
        "max_batch_size": 8,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 28]}],
        "instance_group": [{"count": 2, "kind": "KIND_CPU", "gpus": [0, 1]}],
        "dynamic_batching": {
            "max_queue_delay_microseconds": 1 << 60,
            "priority_queue_policy": {"3": {"default_timeout_microseconds": 5}},
        },
        "parameters": {"sleep_us": {"string_value": "20"}},
        "metric_tags": {"tag": "7"},
        "model_warmup": [{"name": "w", "batch_size": 4, "inputs": {"x": {"dims": [28, 28]}}}],
    }


def test_an_empty_message_is_there_all_the_same() -> None:
    config = pb.ModelConfig()
    config.dynamic_batching.SetInParent()
    assert from_message(config) == {"dynamic_batching": {}}


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(0, 2**64 - 1))
def test_every_integer_survives(dims: list[int], delay: int) -> None:
    config = pb.ModelConfig()
    config.input.add(dims=dims)
    config.dynamic_batching.max_queue_delay_microseconds = delay
    read = json.loads(json.dumps(from_message(config)))
    assert read["input"][0].get("dims", []) == dims
    assert read["dynamic_batching"].get("max_queue_delay_microseconds", 0) == delay
