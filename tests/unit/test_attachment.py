"""What is planned on a server that is not ours, against a real small server of KServe v2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.attachment import Attachment, attach
from harness.errors import UsageError
from harness.scenario import parse_scenario
from tests.kserve import kserve

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with kserve() as port:
        yield port


def attached(port: int, sweep: str = "concurrency: 1", **server: object) -> Attachment:
    words = {"kind": "remote", "host": "127.0.0.1", "http_port": port, **server}
    said = ", ".join(f"{key}: {value}" for key, value in words.items())
    text = f"model: echo\nserver: {{{said}}}\nsweep: {{{sweep}}}\n"
    return attach(parse_scenario(text, name="echo", where="echo.yaml"), Path("no-models-here"))


def test_the_model_is_known_by_its_metadata(port: int) -> None:
    found = attached(port, "batch_size: [1, 8], concurrency: 1")
    configuration = found.models["echo"].configuration
    tensor = {"data_type": "TYPE_FP32", "dims": [4]}
    assert configuration["input"] == [{"name": "X", **tensor}]
    assert configuration["output"] == [{"name": "Y", **tensor}]
    assert found.fixed["echo"].key == "echo-asfound"
    assert found.fixed["echo"].label == "as the server has it"
    assert found.fixed["echo"].max_batch_size == 8


def test_nothing_is_offered_but_inference_and_one_note_says_so(port: int) -> None:
    found = attached(port)
    offers = found.survey.offers
    assert not (offers.model_control)
    assert not (offers.statistics)
    assert not (offers.configuration)
    assert not (offers.binary)
    assert len(found.notes) == 1
    for words in (
        "CPU and memory",
        "queue and compute times",
        "cannot be configured",
        "shape, size",
    ):
        assert words in found.notes[0]


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ("protocol: grpc, concurrency: 1", "offers no gRPC"),
        ("instances: 1, concurrency: 1", "does not let the model echo be configured"),
        ("max_batch_size: 8, concurrency: 1", "does not let the model echo be configured"),
    ],
)
def test_what_it_does_not_have_is_refused_before_anything_is_measured(
    port: int, sweep: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        attached(port, sweep)


def test_words_of_a_server_are_cut_and_counted() -> None:
    with kserve(name=SCRIPT, version="\x1b[31m" + "9" * 9999, extensions=("a",) * 9999) as port:
        survey = attached(port).survey
    assert survey.name == SCRIPT  # the page escapes it
    assert len(survey.version) == 200
    assert "\x1b" not in survey.version
    assert len(survey.extensions) == 64


@pytest.mark.parametrize("inputs", [None, 7, [{}], [{"name": "X"}], "X"])
def test_metadata_that_makes_no_sense_is_one_sentence(inputs: object) -> None:
    said = {"inputs": inputs, "outputs": []}
    with kserve(metadata=said) as port, pytest.raises(UsageError, match="makes no sense"):
        attached(port)


def test_tritonclient_is_not_sent_with_over_http(port: int) -> None:
    words = f"model: echo\nserver: {{kind: remote, host: 127.0.0.1, http_port: {port}}}\n"
    text = words + "sweep: {concurrency: 1}\nmeasure: {sender: tritonclient}\n"
    scenario = parse_scenario(text, name="echo", where="echo.yaml")
    with pytest.raises(UsageError, match="neither the size nor the time of an answer") as caught:
        attach(scenario, Path("no-models-here"))
    assert caught.value.exit_code == 2
    assert "Say sender: raw, or protocol: grpc" in str(caught.value)
