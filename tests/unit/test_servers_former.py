"""What is said where an impatient user interrupts while a server that is not ours is put back."""

from __future__ import annotations

import os
import signal

import pytest

from harness.errors import EnvironmentFailedError
from harness.servers.remote import former
from harness.servers.server import Endpoints

NOBODY = Endpoints(host="127.0.0.1", http_port=9, grpc_port=9)  # nothing is asked of it


def put_back(monkeypatch: pytest.MonkeyPatch, *undone: str) -> None:
    """What comes of putting back, with a Ctrl-C in the midst of it."""

    def interrupted(*_: object) -> list[str]:
        os.kill(os.getpid(), signal.SIGINT)
        return list(undone)

    monkeypatch.setattr(former, "_put_back", interrupted)


def end(error: BaseException | None) -> None:
    with former.kept(NOBODY, [], [], deadline_s=1):
        if error is not None:
            raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "interrupted; and the server is not as it was: cnn stays"),
        (KeyboardInterrupt(), "interrupted; and the server is not as it was: cnn stays"),
        (EnvironmentFailedError("it died."), "it died; and the server is not as it was: cnn stays"),
    ],
)
def test_what_is_not_as_it_was_is_said_in_spite_of_a_second_interrupt(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, said: str
) -> None:
    put_back(monkeypatch, "cnn stays")
    with pytest.raises(EnvironmentFailedError) as caught:
        end(error)
    assert caught.value.what == said
    assert caught.value.exit_code == 3


def test_an_interrupt_is_heeded_once_all_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    put_back(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        end(None)
