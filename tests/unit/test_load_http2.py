"""HTTP/2 against a scripted server: the frames of RFC 9113 in any order, in any pieces, and none that would harm."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.access import OPEN, Access
from harness.load.links import http2
from harness.load.links.grpc_link import _message
from harness.load.links.http2 import Call, Http2
from harness.load.links.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    FRAME,
    FRAME_BYTES,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    NUMBER,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    header_block,
)
from harness.load.outcomes import FailedRequestError
from harness.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.load.links.connection import Connection

HEAD = header_block([(":status", "200"), ("content-type", "application/grpc")])
TRAILERS = header_block([("grpc-status", "0")])
BODY = b"answer"
REQUEST = header_block([(":method", "POST"), (":path", "/s/m")])
WHOLE = (
    frame(HEADERS, END_HEADERS, 1, HEAD)
    + frame(DATA, 0, 1, BODY)
    + frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS)
)
GREETING = frame(SETTINGS, 0, 0, b"")


def frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, stream and payload of each."""
    while data:
        high, low, kind, flags, stream = FRAME.unpack_from(data)
        end = FRAME_BYTES + (high << 8 | low)
        yield kind, flags, stream, data[FRAME_BYTES:end]
        data = data[end:]


def answer(stream: int) -> bytes:
    """A whole one."""
    return b"".join(frame(kind, flags, stream, said) for kind, flags, _, said in frames(WHOLE))


class Wire:
    """A connection whose other end says what was written down beforehand, and then closes it."""

    def __init__(self, *said: bytes) -> None:
        self.sent = b""
        self._said = iter(said)

    def send(self, data: bytes) -> None:
        self.sent += data

    def receive(self) -> bytes:
        return next(self._said, b"")

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        return frames(self.sent.removeprefix(PREFACE))


class Narrow:
    """A connection to a server that takes little at a time, and minds if it is sent more."""

    def __init__(self, window: int, largest: int, more: int) -> None:
        settings = SETTING.pack(INITIAL_WINDOW_SIZE, window) + SETTING.pack(MAX_FRAME_SIZE, largest)
        self.bodies: dict[int, bytes] = {}
        self._said = [frame(SETTINGS, 0, 0, settings)]
        self._windows = {0: FIRST_WINDOW}
        self._settings = window, largest
        self._more = more

    def send(self, data: bytes) -> None:
        for kind, flags, stream, payload in frames(data.removeprefix(PREFACE)):
            if kind == HEADERS:
                self.bodies[stream] = b""
                self._windows[stream] = self._settings[0]
            elif kind == DATA:
                self.bodies[stream] += payload
                self._windows[0] -= len(payload)
                self._windows[stream] -= len(payload)
                if stream > 1:  # the first one is sent before the settings are known
                    assert len(payload) <= self._settings[1]
                    assert min(self._windows[0], self._windows[stream]) >= 0
                if flags & END_STREAM:
                    self._said.append(answer(stream))

    def receive(self) -> bytes:
        if self._said:
            return self._said.pop(0)
        for stream in (0, max(self._windows)):
            self._windows[stream] += self._more
        more = NUMBER.pack(self._more)
        return b"".join(frame(WINDOW_UPDATE, 0, stream, more) for stream in (0, max(self._windows)))


def talk(*said: bytes, body: bytes = b"?") -> tuple[Call, Wire]:
    """One call on a new connection."""
    wire = Wire(*said)
    return Http2(cast("Connection", wire)).call(REQUEST, body), wire


def failure(*said: bytes, body: bytes = b"?") -> FailedRequestError:
    with pytest.raises(FailedRequestError) as failed:
        talk(*said, body=body)
    return failed.value


def test_a_call_is_two_frames_and_its_answer_three() -> None:
    call, wire = talk(GREETING + WHOLE)
    assert wire.sent.startswith(PREFACE)
    settings, window, head, data, ack = wire.frames()
    assert dict(SETTING.iter_unpack(settings[3])) == {1: 0, 2: 0, 4: 2**31 - 1, 5: 2**20}
    assert window == (WINDOW_UPDATE, 0, 0, NUMBER.pack(LARGEST_WINDOW - FIRST_WINDOW))
    assert head == (HEADERS, END_HEADERS, 1, REQUEST)
    assert data == (DATA, END_STREAM, 1, b"?")
    assert ack == (SETTINGS, ACK, 0, b"")
    assert call.head[":status"] == "200"
    assert call.body == BODY
    assert call.trailers == {"grpc-status": "0"}


def test_calls_follow_each_other_on_odd_streams() -> None:
    second = answer(3)
    wire = Wire(GREETING + WHOLE + second[:5], second[5:])
    speaker = Http2(cast("Connection", wire))
    assert speaker.call(REQUEST, b"1").body == speaker.call(REQUEST, b"2").body == BODY
    assert [stream for kind, _, stream, _ in wire.frames() if kind == DATA] == [1, 3]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_the_pieces_that_it_comes_in_do_not_matter(sizes: list[int]) -> None:
    said, pieces = GREETING + frame(PING, 0, 0, b"12345678") + WHOLE, []
    for size in sizes:
        pieces.append(said[:size])
        said = said[size:]
    call, wire = talk(*filter(None, [*pieces, said]))
    assert call.body == BODY
    assert (PING, ACK, 0, b"12345678") in list(wire.frames())


@given(
    body=st.binary(min_size=1, max_size=200_000),
    window=st.integers(0, 100_000),
    largest=st.integers(16_384, 40_000),
    more=st.integers(5_000, 70_000),
)
def test_no_more_is_sent_than_the_server_takes(
    body: bytes, window: int, largest: int, more: int
) -> None:
    """Whatever windows it opens, all of the body arrives, in frames that fit, and never ahead of a window."""
    server = Narrow(window, largest, more)
    speaker = Http2(cast("Connection", server))
    for sent in (b"?", body, body[::-1]):
        assert speaker.call(REQUEST, sent).body == BODY
    assert server.bodies == {1: b"?", 3: body, 5: body[::-1]}


def test_many_headers_go_on_in_another_frame() -> None:
    wire = Wire(GREETING + WHOLE)
    block = header_block([(f"x-{number}", "y" * 90) for number in range(500)])
    Http2(cast("Connection", wire)).call(block, b"?")
    parts = [each for each in wire.frames() if each[0] in (HEADERS, CONTINUATION)]
    assert len(parts) > 1
    assert [bool(flags & END_HEADERS) for _, flags, _, _ in parts] == [False] * (len(parts) - 1) + [
        True
    ]
    assert b"".join(payload for *_, payload in parts) == block


@pytest.mark.parametrize(
    "said",
    [
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\x03" + HEAD + b"\0" * 3)
        + frame(DATA, PADDED, 1, b"\x05" + BODY + b"\0" * 5)
        + frame(HEADERS, END_HEADERS | END_STREAM | PRIORITY, 1, b"\0" * 5 + TRAILERS),
        frame(HEADERS, 0, 1, HEAD[:3])
        + frame(CONTINUATION, 0, 1, HEAD[3:4])
        + frame(CONTINUATION, END_HEADERS, 1, HEAD[4:])
        + frame(DATA, 0, 1, BODY[:2])
        + frame(DATA, 0, 1, BODY[2:])
        + frame(HEADERS, END_STREAM, 1, TRAILERS[:4])
        + frame(CONTINUATION, END_HEADERS, 1, TRAILERS[4:]),
        frame(HEADERS, END_HEADERS, 1, header_block([(":status", "103")])) + WHOLE,
        frame(0xBE, 0xFF, 0, b"an extension") + frame(DATA, 0, 7, b"of another call") + WHOLE,
        frame(HEADERS, END_HEADERS, 1, HEAD[1:]) + WHOLE[FRAME_BYTES + len(HEAD) :],
    ],
    ids=["padded", "in pieces", "informed", "extended", "without a word on tables"],
)
def test_an_answer_may_have_any_form(said: bytes) -> None:
    call, _ = talk(GREETING + said)
    assert call.head[":status"] == "200"
    assert call.body == BODY
    assert call.trailers == {"grpc-status": "0"}


def test_an_answer_may_be_its_trailers_alone() -> None:
    refusal = header_block([(":status", "200"), ("grpc-status", "5")])
    call, _ = talk(GREETING + frame(HEADERS, END_HEADERS | END_STREAM, 1, refusal))
    assert call.head is call.trailers
    assert call.body == b""


def test_an_answer_before_all_was_heard_ends_the_sending() -> None:
    refusal = header_block([(":status", "200"), ("grpc-status", "8")])
    call, wire = talk(
        GREETING + frame(HEADERS, END_HEADERS | END_STREAM, 1, refusal), body=b"?" * 100_000
    )
    assert call.trailers["grpc-status"] == "8"
    assert list(wire.frames())[-1] == (RST_STREAM, 0, 1, NUMBER.pack(8))


def test_the_server_is_told_that_it_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "MUCH", 50)
    parts = b"".join(frame(DATA, 0, 1, b"x" * 30) for _ in range(5))
    _, wire = talk(GREETING + parts + WHOLE)
    assert [NUMBER.unpack(said)[0] for kind, _, _, said in wire.frames() if kind == WINDOW_UPDATE][
        1:
    ] == [60, 60]


def test_a_farewell_lets_the_call_end_and_takes_no_other() -> None:
    wire = Wire(GREETING + frame(GOAWAY, 0, 0, NUMBER.pack(1) + NUMBER.pack(0)) + WHOLE)
    speaker = Http2(cast("Connection", wire))
    assert speaker.call(REQUEST, b"?").body == BODY
    assert speaker.is_last


@pytest.mark.parametrize(
    "late",
    [
        frame(GOAWAY, 0, 0, NUMBER.pack(0) * 2),
        frame(RST_STREAM, 0, 1, NUMBER.pack(0)),
        frame(DATA, END_STREAM, 1, b"more"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, header_block([("grpc-status", "13")])),
    ],
    ids=["farewell", "reset", "data", "headers"],
)
def test_what_comes_behind_an_answer_does_not_change_it(late: bytes) -> None:
    call, _ = talk(GREETING + WHOLE + late)
    assert call.body == BODY
    assert call.trailers == {"grpc-status": "0"}


def test_a_window_may_shrink_while_a_call_is_sent() -> None:
    """Below nothing, even (RFC 9113, section 6.9.2): then more has to be opened before anything is sent."""
    smaller = frame(SETTINGS, 0, 0, SETTING.pack(INITIAL_WINDOW_SIZE, 10))
    one, all_ = NUMBER.pack(100_000), NUMBER.pack(200_000)
    call, wire = talk(
        smaller,
        frame(WINDOW_UPDATE, 0, 0, all_) + frame(WINDOW_UPDATE, 0, 1, one),
        WHOLE,
        body=b"?" * 100_000,
    )
    assert call.body == BODY
    sizes = [len(payload) for kind, _, _, payload in wire.frames() if kind == DATA]
    assert sum(sizes) == 100_000
    assert (
        sum(sizes[: sizes.index(65_535 % 16_384) + 1]) == 65_535
    )  # by the window of the beginning


def test_a_farewell_between_calls_is_heeded() -> None:
    speaker = Http2(cast("Connection", Wire()))
    said = GREETING + frame(GOAWAY, 0, 0, NUMBER.pack(0) * 2)
    speaker.heed(said[:11])
    assert not speaker.is_last
    speaker.heed(said[11:])
    assert speaker.is_last


def test_the_last_stream_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "LAST_STREAM", 3)
    speaker = Http2(cast("Connection", Wire(GREETING + WHOLE, answer(3))))
    speaker.call(REQUEST, b"?")
    assert not speaker.is_last
    speaker.call(REQUEST, b"?")
    assert speaker.is_last


@pytest.mark.parametrize(
    "said",
    [
        b"",
        GREETING,
        GREETING + WHOLE[:-1],
        GREETING + frame(RST_STREAM, 0, 1, NUMBER.pack(2)),
        GREETING + frame(GOAWAY, 0, 0, NUMBER.pack(0) + NUMBER.pack(11) + b"too many"),
    ],
    ids=["nothing", "greeting", "half", "reset", "farewell"],
)
def test_a_call_that_is_broken_off_is_a_reset(said: bytes) -> None:
    assert failure(said).outcome is Outcome.RESET


TABLE = hpack.Encoder()
INDEXED = TABLE.encode([("x", "kept")]) and TABLE.encode([("x", "kept")])  # by a table


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no HTTP/2"),
        (FRAME.pack(0xFFFF, 0xFF, DATA, 0, 1), "no HTTP/2"),
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff"), "cannot be read"),
        (frame(HEADERS, END_HEADERS, 1, INDEXED), "cannot be read"),
        (frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\x1f" + HEAD), "cannot be read"),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + HEAD), "more padding than frame"),
        (frame(CONTINUATION, END_HEADERS, 1, HEAD), "never began"),
        (frame(HEADERS, 0, 1, HEAD) + frame(PING, 0, 0, b"12345678"), "do not go on"),
        (frame(HEADERS, 0, 1, HEAD) + frame(CONTINUATION, 0, 1, b"x" * 70_000), "more than"),
        (frame(PUSH_PROMISE, END_HEADERS, 1, HEAD), "a promise"),
        (frame(SETTINGS, 0, 0, b"12345"), "with 5 bytes"),
        (frame(WINDOW_UPDATE, 0, 0, b"123"), "with 3 bytes"),
        (frame(RST_STREAM, 0, 1, b""), "with 0 bytes"),
        (frame(GOAWAY, 0, 0, b"1"), "with 1 bytes"),
        (frame(PING, 0, 0, b"1234567"), "a ping of 7 bytes"),
        (frame(SETTINGS, 0, 0, SETTING.pack(INITIAL_WINDOW_SIZE, 2**31)), "a window of"),
        (frame(SETTINGS, 0, 0, SETTING.pack(MAX_FRAME_SIZE, 1)), "frames of 1 bytes"),
    ],
)
def test_what_is_no_http2_is_refused(said: bytes, reason: str) -> None:
    failed = failure(said)
    assert failed.outcome is Outcome.OTHER
    assert reason in failed.reason


def test_an_endless_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "LARGEST_BODY", 1000)
    failed = failure(GREETING, *(frame(DATA, 0, 1, b"x" * 300) for _ in range(5)))
    assert "more than 1000 bytes" in failed.reason


blocks = st.lists(
    st.tuples(
        st.sampled_from([":status", "grpc-status", "grpc-message", "x"]),
        st.one_of(st.sampled_from(["200", "0", "5", "9" * 5000, "%zz"]), st.text(max_size=9)),
    ),
    max_size=4,
).map(header_block)
any_frame = st.builds(
    frame,
    st.sampled_from([*range(10), 0xBE]),
    st.integers(0, 255),
    st.sampled_from([0, 1, 3, 2**31 + 1]),
    st.one_of(st.binary(max_size=40), blocks, st.just(b"\0\0\0\0\x06answer")),
)


@given(st.lists(any_frame, max_size=8).map(b"".join), st.booleans())
def test_no_frames_raise_anything_else(said: bytes, once: bool) -> None:
    """Whatever a server says, it is an answer or one of our failures."""
    head = frame(HEADERS, END_HEADERS, 1, HEAD) if once else b""
    try:
        _message(talk(GREETING + head + said + WHOLE)[0], OPEN)
    except FailedRequestError as failed:
        assert failed.outcome is not Outcome.OK  # noqa: PT017 - both ways are right


@pytest.mark.parametrize(
    ("fields", "outcome", "said"),
    [
        ({"grpc-status": "5", "grpc-message": "no %22m%22"}, Outcome.HTTP_4XX, 'NOT_FOUND: no "m"'),
        ({"grpc-status": "13"}, Outcome.HTTP_5XX, "INTERNAL"),
        ({"grpc-status": "14", "grpc-message": "x"}, Outcome.HTTP_5XX, "UNAVAILABLE: x"),
        ({"grpc-status": "4"}, Outcome.TIMEOUT, "DEADLINE_EXCEEDED"),
        ({"grpc-status": "17"}, Outcome.HTTP_5XX, "UNKNOWN"),
        ({"grpc-status": "9" * 5000}, Outcome.HTTP_5XX, "UNKNOWN"),
        ({":status": "401"}, Outcome.HTTP_4XX, "UNAUTHENTICATED: HTTP status '401'"),
        ({":status": "503"}, Outcome.HTTP_5XX, "UNAVAILABLE: HTTP status '503'"),
        ({":status": "404"}, Outcome.HTTP_4XX, "UNIMPLEMENTED: HTTP status '404'"),
        ({":status": "413"}, Outcome.HTTP_4XX, "UNKNOWN: HTTP status '413'"),
        # The words of a proxy on its own connection to the server.
        (
            {"grpc-status": "14", "grpc-message": "connect: Connection refused"},
            Outcome.HTTP_5XX,
            "UNAVAILABLE: connect",
        ),
        ({":status": "200"}, Outcome.HTTP_5XX, "UNKNOWN: HTTP status '200'"),
    ],
)
def test_a_status_says_what_became_of_it(
    fields: dict[str, str], outcome: Outcome, said: str
) -> None:
    with pytest.raises(FailedRequestError) as failed:
        _message(Call(1, 0, head=fields, trailers=fields, ended=True), OPEN)
    assert failed.value.outcome is outcome
    assert said in failed.value.reason


def test_a_status_may_come_before_trailers_that_have_none() -> None:
    """As nginx sends it with ``add_trailer``."""
    head = {":status": "200", "grpc-status": "14", "grpc-message": "Exceeds maximum queue size"}
    with pytest.raises(FailedRequestError) as failed:
        _message(Call(1, 0, head=head, trailers={"x": "y"}, ended=True), OPEN)
    assert failed.value.outcome is Outcome.REJECTED


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0\0", b"\x01\0\0\0\x01x", b"\0\0\0\0\x02x", b"\0\0\0\0\x01x\0\0\0\0\x01x"],
    ids=["none", "no prefix", "compressed", "short", "two"],
)
def test_an_answer_is_one_message(body: bytes) -> None:
    with pytest.raises(FailedRequestError, match="no single message") as failed:
        _message(Call(1, 0, trailers={"grpc-status": "0"}, parts=[body]), OPEN)
    assert failed.value.outcome is Outcome.OTHER


def test_a_secret_that_a_server_says_back_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the text is cut, which would leave a part of it."""
    monkeypatch.setenv("TOKEN", "open sesame")
    trailers = {"grpc-status": "16", "grpc-message": "x" * 490 + "open%20sesame"}
    with pytest.raises(FailedRequestError) as failed:
        _message(Call(1, 0, trailers=trailers), Access(token_env="TOKEN"))
    assert failed.value.reason.endswith("xx***")


def test_the_same_headers_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    speaker = Http2(cast("Connection", Wire(GREETING + WHOLE, answer(3), answer(5))))
    first = speaker.call(REQUEST, b"?")
    monkeypatch.setattr(speaker, "_decoder", None)
    for _ in range(2):
        assert speaker.call(REQUEST, b"?").trailers is first.trailers


def test_headers_that_are_never_the_same_do_not_fill_the_memory_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dated(stream: int) -> bytes:
        head = header_block([(":status", "200"), ("date", str(stream))])
        return frame(HEADERS, END_HEADERS, stream, head) + answer(stream)

    streams = range(1, 3 * http2.BLOCKS_KEPT, 2)
    speaker = Http2(
        cast("Connection", Wire(GREETING, *map(dated, streams), answer(streams[-1] + 2)))
    )
    for _ in streams:
        speaker.call(REQUEST, b"?")
    assert 0 < len(speaker._meanings) <= http2.BLOCKS_KEPT
    monkeypatch.setattr(speaker, "_decoder", None)
    assert speaker.call(REQUEST, b"?").body == BODY


def test_a_header_block_needs_no_table() -> None:
    """Not even where the server allows none: then a block has to say first that it uses none."""
    fields = [(":path", "/s/m"), ("authorization", "Bearer 1"), ("x", "é")]
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    for _ in range(2):
        assert [tuple(each) for each in decoder.decode(header_block(fields))] == fields
        assert not decoder.header_table.dynamic_entries
