from __future__ import annotations

import io
from pathlib import Path

import pytest

from harness.errors import EnvironmentFailedError, HarnessError, InterruptedRunError, UsageError
from harness.load.messages import error_from, error_message, receive, send
from harness.load.target import Target


def test_messages_follow_each_other() -> None:
    stream = io.BytesIO()
    send(stream, {"do": "collect", "text": "zwei\nZeilen"}, [b"\n\n{", memoryview(b""), b"x" * 9])
    send(stream, {"do": "next"})
    stream.seek(0)
    assert receive(stream) == (
        {"do": "collect", "text": "zwei\nZeilen"},
        [b"\n\n{", b"", b"x" * 9],
    )
    assert receive(stream) == ({"do": "next"}, [])
    assert receive(stream) is None


def test_a_message_that_breaks_off_is_none() -> None:
    stream = io.BytesIO()
    send(stream, {"do": "level"}, [b"12345678"])
    whole = stream.getvalue()
    for length in range(len(whole)):
        assert receive(io.BytesIO(whole[:length])) is None, length


@pytest.mark.parametrize("kind", [UsageError, EnvironmentFailedError])
def test_an_error_arrives_as_it_was(kind: type[HarnessError]) -> None:
    error = error_from(error_message(kind("it broke", where="here", remedy="Mend it")))
    assert type(error) is kind
    assert str(error) == "here: it broke. Mend it."


def test_any_other_error_arrives_as_one_of_the_environment() -> None:
    assert type(error_from(error_message(InterruptedRunError("x")))) is EnvironmentFailedError


@pytest.mark.parametrize("reference", [None, Path("/somewhere/reference.npz")])
def test_a_target_arrives_as_it_was(reference: Path | None) -> None:
    target = Target("127.0.0.1:1", None, "m", False, reference, 0.25)
    assert Target.from_json(target.to_json()) == target
