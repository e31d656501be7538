from __future__ import annotations

from typing import Any

import pytest

from harness.errors import UsageError
from harness.repository.configuration import configuration_text
from harness.repository.features import with_features
from harness.scenario import ServerSpec, parse_scenario

CONFIG: dict[str, Any] = {
    "name": "cnn",
    "backend": "python",
    "max_batch_size": 8,
    "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
}


def spec(text: str) -> ServerSpec:
    return parse_scenario(f"server: {text}\nsweep: {{concurrency: 1}}", name="s", where="s").server


def test_nothing_is_turned_on_unless_asked_for() -> None:
    server = spec("{kind: embedded}")
    assert configuration_text(with_features(CONFIG, server)) == configuration_text(CONFIG)
    assert server.arguments == ()


@pytest.mark.parametrize("kind", ["embedded", "container"])
def test_a_response_cache_is_the_servers_and_the_models(kind: str) -> None:
    server = spec(f"{{kind: {kind}, response_cache: 16m, extra_args: --log-verbose=1}}")
    assert with_features(CONFIG, server)["response_cache"] == {"enable": True}
    assert server.arguments == ("--cache-config=local,size=16777216", "--log-verbose=1")


def test_a_rate_limiter_is_the_servers_and_each_instances() -> None:
    server = spec("{rate_limiter: {resources: {slot: 1}, available: {slot: 3}, priority: 2}}")
    text = configuration_text(with_features(CONFIG, server))
    assert 'resources {\n      name: "slot"\n      count: 1\n    }\n    priority: 2' in text
    assert server.arguments == ("--rate-limit=execution_count", "--rate-limit-resource=slot:3")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{rate_limiter: {resources: {}}}", "rate_limiter.resources"),
        ("{rate_limiter: {resources: {a b: 1}}}", "rate_limiter.resources"),
        ("{rate_limiter: {resources: {a: 2}, available: {a: 1}}}", "takes 2 of a, more than"),
        ("{response_cache: 16}", "expected a size with its unit"),
        ("{kind: remote, host: h, response_cache: 16m}", "kind embedded or container"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        spec(text)
    assert said in str(caught.value)
