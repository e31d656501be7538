"""What a server may send before a user gives up on its answer, whatever it is."""

from __future__ import annotations

import itertools

import pytest

from harness.load.links import http_link
from harness.load.links.http_link import _Response
from harness.load.outcomes import FailedRequestError

SMALL = 1 << 20


@pytest.mark.parametrize(
    "piece",
    [
        b"1;" + b"x" * 60_000 + b"\r\na\r\n",  # extensions of chunks count, too
        b"10000\r\n" + b"x" * 65_536 + b"\r\n",
        b"x" * 65_536,
        b"0\r\n" + b"T: x\r\n" * 10_000,
    ],
)
def test_a_body_without_end_is_given_up(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_link, "LARGEST_BODY", SMALL)
    pieces = itertools.repeat(piece)
    response = _Response(next(pieces), lambda: next(pieces))
    with pytest.raises(FailedRequestError, match="malformed response"):
        response.chunks(0)
    assert len(response.data) < 2 * SMALL


def test_a_head_without_end_is_given_up() -> None:
    pieces = itertools.repeat(b"X: " + b"x" * 1000 + b"\r\n")
    response = _Response(next(pieces), lambda: next(pieces))
    with pytest.raises(FailedRequestError, match=r"no .* within 65536 bytes"):
        response.until(b"\r\n\r\n", 0)
