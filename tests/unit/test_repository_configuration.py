"""Configurations: set to a point, written, read back, and compared with what the server says."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import EnvironmentFailedError, UsageError
from harness.point import DynamicBatching, ServerConfiguration
from harness.repository.configuration import (
    configuration_text,
    differences,
    read_configuration,
    require_unchanged,
    with_server_configuration,
)
from harness.repository.protobuf import canonical

if TYPE_CHECKING:
    from pathlib import Path

BASE: dict[str, Any] = {
    "name": "cnn",
    "backend": "python",
    "max_batch_size": 64,
    "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": [28, 28, 1]}],
    "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [10]}],
    "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
    "dynamic_batching": {},
    "parameters": {"intra_op_thread_count": {"string_value": "1"}},
    "model_warmup": [
        {
            "name": f"batch_{size}",
            "batch_size": size,
            "count": 1,
            "inputs": {"image": {"data_type": "TYPE_FP32", "dims": [28, 28, 1], "zero_data": True}},
        }
        for size in (1, 8, 64)
    ],
}


def asked(**changes: Any) -> ServerConfiguration:
    return ServerConfiguration(**{"model": "cnn", **changes})


def as_the_server_says(config: dict[str, Any]) -> dict[str, Any]:
    """What Triton 2.51 answers to a load of ``config``; 64-bit integers as strings."""
    answer = canonical(config)
    answer["version_policy"] = {"latest": {"num_versions": 1}}
    answer["optimization"] = {
        "input_pinned_memory": {"enable": True},
        "output_pinned_memory": {"enable": True},
    }
    answer["default_model_filename"] = "model.py"
    for place, group in enumerate(answer["instance_group"]):
        group["name"] = f"cnn_{place}"
    if "dynamic_batching" in answer:
        answer["dynamic_batching"].setdefault("preferred_batch_size", [answer["max_batch_size"]])
        if "max_queue_delay_microseconds" in answer["dynamic_batching"]:
            delay = answer["dynamic_batching"]["max_queue_delay_microseconds"]
            answer["dynamic_batching"]["max_queue_delay_microseconds"] = str(delay)
    for tensor in (*answer["input"], *answer["output"]):
        tensor["dims"] = [str(size) for size in tensor["dims"]]
    return answer


batchings = st.none() | st.builds(
    DynamicBatching,
    max_queue_delay_us=st.integers(0, 10**6),
    preferred_batch_sizes=st.lists(st.integers(1, 4), max_size=3, unique=True).map(tuple),
    preserve_ordering=st.booleans(),
)
configurations = st.builds(
    asked,
    instances=st.integers(1, 64),
    max_batch_size=st.integers(5, 256),  # above every preferred size
    dynamic_batching=batchings,
)


@given(configurations)
def test_a_point_is_in_the_text_and_the_server_s_own_words_are_no_difference(
    configuration: ServerConfiguration,
) -> None:
    config = with_server_configuration(BASE, configuration)
    batching = configuration.dynamic_batching
    assert config["max_batch_size"] == configuration.max_batch_size
    assert config["instance_group"] == [{"count": configuration.instances, "kind": "KIND_CPU"}]
    assert ("dynamic_batching" in config) == (batching is not None)
    assert json.loads(json.dumps(config)) == config
    assert differences(config, as_the_server_says(config)) == ()


@given(configurations, configurations)
def test_another_configuration_is_a_difference(
    one: ServerConfiguration, other: ServerConfiguration
) -> None:
    requested = with_server_configuration(BASE, one)
    effective = as_the_server_says(with_server_configuration(BASE, other))
    if with_server_configuration(BASE, one) != with_server_configuration(BASE, other):
        assert differences(requested, effective)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"max_batch_size": 4}, "max_batch_size: asked for 64, the server has 4"),
        (
            {"instance_group": [{"name": "cnn_0", "count": 2, "kind": "KIND_CPU"}]},
            "instance_group[0].count: asked for 1, the server has 2",
        ),
        (
            {"instance_group": [{"name": "cnn_0", "count": 1, "kind": "KIND_GPU"}]},
            "instance_group[0].kind: asked for KIND_CPU, the server has KIND_GPU",
        ),
        (
            {"dynamic_batching": {"max_queue_delay_microseconds": "5"}},
            "dynamic_batching: asked for none, the server has {'max_queue_delay_microseconds': 5}",
        ),
        (
            {"dynamic_batching": {}},
            "dynamic_batching: asked for none, the server has it with its defaults",
        ),
        (
            {"response_cache": {"enable": True}},
            "response_cache: asked for none, the server has {'enable': True}",
        ),
        (
            {"version_policy": {"all": {}}},
            "version_policy.all: asked for none, the server has it with its defaults",
        ),
        (
            {"optimization": {"graph": {"level": 2}}},
            "optimization.graph: asked for none, the server has {'level': 2}",
        ),
        (
            {"parameters": {"intra_op_thread_count": {"string_value": "8"}}},
            "parameters.intra_op_thread_count.string_value: asked for 1, the server has 8",
        ),
        ({"parameters": {}}, "parameters: asked for {'intra_op_thread_count': {'string_value': '1'}}, the server has none"),
        ({"backend": "onnxruntime"}, "backend: asked for python, the server has onnxruntime"),
    ],
)  # fmt: skip
def test_what_the_server_has_otherwise_is_said(change: dict[str, Any], sentence: str) -> None:
    requested = with_server_configuration(BASE, asked())
    assert sentence in differences(requested, as_the_server_says(requested) | change)


def test_a_field_of_a_newer_server_is_no_difference_to_an_older_client() -> None:
    requested = with_server_configuration(BASE, asked())
    assert differences(requested, as_the_server_says(requested) | {"brand_new": {"a": 1}}) == ()


def test_warm_up_above_the_maximum_is_left_out() -> None:
    config = with_server_configuration(BASE, asked(max_batch_size=8))
    assert [sample["batch_size"] for sample in config["model_warmup"]] == [1, 8]


def test_queue_policy_and_priorities_of_the_export_stay_with_a_dynamic_batcher() -> None:
    policy = {"default_queue_policy": {"max_queue_size": 9}, "priority_levels": 2}
    base = BASE | {"dynamic_batching": policy | {"default_priority_level": 1}}
    delayed = asked(dynamic_batching=DynamicBatching(max_queue_delay_us=7))
    assert with_server_configuration(base, delayed)["dynamic_batching"] == {
        **policy,
        "default_priority_level": 1,
        "max_queue_delay_microseconds": 7,
    }
    assert "dynamic_batching" not in with_server_configuration(base, asked())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"max_batch_size": 8, "dynamic_batching": {"preferred_batch_sizes": [16]}},
            "the preferred batch size 16 is above max_batch_size 8",
        ),
        ({"max_batch_size": 0}, "has a batch dimension"),
        ({"gpus": [0]}, "GPUs are listed, but the instances are on the CPU"),
    ],
)
def test_a_point_that_contradicts_itself_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        with_server_configuration(BASE, asked(**change))


def test_ordering_is_refused_where_the_export_has_priorities() -> None:
    base = BASE | {"dynamic_batching": {"priority_levels": 2, "default_priority_level": 1}}
    ordered = asked(dynamic_batching=DynamicBatching(preserve_ordering=True))
    with pytest.raises(UsageError, match="2 priority levels let requests overtake"):
        with_server_configuration(base, ordered)


def test_a_model_without_a_batch_dimension_takes_no_batches() -> None:
    base = {key: value for key, value in BASE.items() if key != "dynamic_batching"}
    base = base | {"max_batch_size": 0, "model_warmup": BASE["model_warmup"][:1]}
    config = with_server_configuration(base, asked(max_batch_size=0))
    assert config["max_batch_size"] == 0
    assert len(config["model_warmup"]) == 1
    with pytest.raises(UsageError, match="has no batch dimension"):
        with_server_configuration(base, asked(max_batch_size=8))


def test_the_base_is_left_as_it_was() -> None:
    before = json.dumps(BASE)
    with_server_configuration(BASE, asked(instances=3, max_batch_size=8))
    assert json.dumps(BASE) == before


def test_the_text_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(configuration_text(BASE), encoding="utf-8")
    assert read_configuration(path) == canonical(BASE)
    assert all(type(size) is int for size in read_configuration(path)["input"][0]["dims"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [("name: ", "not a Triton model configuration"), ("nome: 'cnn'", "nome")],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=reason) as caught:
        read_configuration(path)
    assert caught.value.where == str(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_configuration(tmp_path / "config.pbtxt")


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(UsageError, match="instances"):
        configuration_text(BASE | {"instances": 2})


def test_a_server_that_went_back_to_its_own_configuration_is_noticed() -> None:
    was = as_the_server_says(with_server_configuration(BASE, asked(instances=2)))
    require_unchanged(was, copy.deepcopy(was))
    own = as_the_server_says(with_server_configuration(BASE, asked()))
    said = (
        r"has changed since it was set: .*instance_group\[0\].count: asked for 2, the server has 1"
    )
    with pytest.raises(EnvironmentFailedError, match=said):
        require_unchanged(was, own)
    with pytest.raises(
        EnvironmentFailedError, match=r"the model was loaded anew, or the server restarted\.$"
    ):
        require_unchanged(was, was | {"of_a_later_triton": True})
