from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.scenario import Scenario, ServerSpec, parse_scenario

SMALL = """\
model: cnn
server:
  kind: container
  image: nvcr.io/nvidia/tritonserver:25.02-py3
  gpus: [0, 1]
  shm_size: 2g
  memory: 512m
  cpus: [0, 1]
  network: host
  env: {OMP_NUM_THREADS: 1, TOKEN: null}
sweep: {concurrency: 1}
"""


def parse(text: str) -> Scenario:
    return parse_scenario(text, name="small", where="small.yaml")


def complaint(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(text)
    return str(caught.value)


def test_a_container_is_said_in_a_few_words() -> None:
    server = parse(SMALL).server
    assert server.kind == "container"
    assert server.gpus == ("0", "1")
    assert server.shm_size_bytes == 2 << 30
    assert server.memory_bytes == 512 << 20
    assert server.network == "host"
    assert server.env == {"OMP_NUM_THREADS": "1", "TOKEN": None}


def test_one_line_moves_a_scenario_from_one_kind_to_the_other() -> None:
    embedded = parse("server: {kind: embedded, cpus: 0}\nsweep: {concurrency: 1}")
    container = parse("server: {kind: container, cpus: 0}\nsweep: {concurrency: 1}")
    assert embedded.sweep == container.sweep
    assert embedded.server.model_copy(update={"kind": "container"}) == container.server


@pytest.mark.parametrize("kind", ["embedded", "container"])
def test_a_resolved_scenario_reads_back_as_itself(kind: str) -> None:
    text = SMALL if kind == "container" else "server: {kind: embedded}\nsweep: {concurrency: 1}"
    scenario = parse(text)
    assert scenario.server.kind == kind
    assert Scenario.model_validate(scenario.model_dump(mode="json")) == scenario


@pytest.mark.parametrize(
    "line",
    [
        "image: nvcr.io/nvidia/tritonserver:25.02-py3",
        "gpus: [0, 1]",
        "shm_size: 2g",
        "network: host",
        "env: {OMP_NUM_THREADS: 1, TOKEN: null}",
    ],
)
def test_what_only_a_container_has_is_refused_for_an_embedded_server(line: str) -> None:
    text = f"server:\n  kind: embedded\n  {line}\nsweep: {{concurrency: 1}}\n"
    sentence = complaint(text)
    assert sentence.startswith("small.yaml:3: server." + line.partition(":")[0])
    assert "only a server of kind container has this, and this one is embedded" in sentence
    assert "say kind: container" in sentence


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("kind: container", "kind: contaner", 3, ["server.kind", "'contaner'", "'container'"]),
        ("  gpus:", "  gpu:", 5, ["server.gpu", "Did you mean gpus?"]),
        ("  shm_size:", "  shm:", 6, ["server.shm", "unknown key", "shm_size"]),
        ("memory: 512m", "memory: 512", 7, ["memory", "size with its unit", "512m"]),
        ("memory: 512m", "memory: much", 7, ["memory", "size with its unit"]),
        ("gpus: [0, 1]", "gpus: [all, 1]", 5, ["server.gpus", "all stands alone"]),
        ("gpus: [0, 1]", "gpus: some", 5, ["server.gpus", "GPU-8f2d", "'some'"]),
        ("network: host", "network: none", 9, ["server.network", "'bridge' or 'host'"]),
        ("OMP_NUM_THREADS", "OMP NUM", 10, ["server.env"]),
        ("25.02-py3", "25.02 --privileged", 4, ["server.image", "match pattern"]),
        ("nvcr.io/", "-v/:/host", 4, ["server.image"]),
    ],
)
def test_a_wrong_container_is_told_its_line_the_key_and_the_way_out(
    old: str, new: str, line: int, words: list[str]
) -> None:
    sentence = complaint(SMALL.replace(old, new, 1))
    assert sentence.startswith(f"small.yaml:{line}")
    for word in words:
        assert word in sentence


@given(st.integers(1, 4096), st.sampled_from("kmgt"), st.sampled_from(["", "b", "ib", "iB", "B"]))
def test_a_size_is_its_number_times_a_power_of_1024(number: int, unit: str, rest: str) -> None:
    spec = ServerSpec.model_validate({"kind": "container", "memory": f"{number}{unit}{rest}"})
    assert spec.memory_bytes == number * 1024 ** (1 + "kmgt".index(unit))


REMOTE = """\
model: cnn
server:
  kind: remote
  host: triton.example.com
  tls: {ca: ca.pem, certificate: me.pem, key: me.key, grpc: false}
  token_env: A_TOKEN
  headers: {X-Tenant: {env: A_TENANT}}
sweep: {concurrency: 1}
"""


def test_a_remote_server_says_how_it_lets_one_in_and_no_secret() -> None:
    scenario = parse(REMOTE)
    access = scenario.server.access
    assert (access.http_tls, access.grpc_tls, access.ca) == (True, False, "ca.pem")
    assert (access.token_env, access.headers) == ("A_TOKEN", (("X-Tenant", "A_TENANT"),))
    assert Scenario.model_validate(scenario.model_dump(mode="json")) == scenario


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "{X-Tenant: {env: A_TENANT}}",
            "{X-Tenant: hunter2}",
            ["must not stand", "{env: VARIABLE}"],
        ),
        ("{env: A_TENANT}", "{env: A_TENANT, value: hunter2}", ["server.headers", "unknown key"]),
        ("token_env: A_TOKEN", "token_env: Bearer hunter2", ["server.token_env"]),
        ("token_env: A_TOKEN", "token: hunter2", ["Did you mean token_env?"]),
        ("X-Tenant:", "Host:", ["server.headers", "the header Host is the harness's own"]),
        ("X-Tenant:", '"X: y":', ["server.headers"]),
        ("  host: triton.example.com\n", "", ["a remote server needs its host"]),
        ("triton.example.com", "a b", ["server.host"]),
        ("triton.example.com", "https://triton.example.com", ["server.host"]),
        ("certificate: me.pem, ", "", ["server.tls", "a key without its certificate"]),
        (
            "  host:",
            "  gpus: all\n  host:",
            ["server.gpus", "this one is remote", "kind: container"],
        ),
        ("  host:", "  cpus: 0\n  host:", ["server.cpus", "embedded or container"]),
        (
            "kind: remote",
            "kind: embedded",
            ["server.host", "only a server of kind remote has this"],
        ),
    ],
)
def test_a_wrong_remote_server_is_told_in_one_sentence_that_shows_no_secret(
    old: str, new: str, words: list[str]
) -> None:
    sentence = complaint(REMOTE.replace(old, new, 1))
    assert sentence.startswith("small.yaml:")
    assert "hunter2" not in sentence
    for word in words:
        assert word in sentence
