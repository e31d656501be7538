"""HTTP/2 as a client needs it that has one call in flight (RFC 9113), with as little work a call as possible.

The server is told to compress headers without a table that both would have to keep (HPACK, RFC 7541), so
that the same headers are the same bytes each time, and are decoded once. What the server may send at any
time is heeded: settings, pings, windows, resets and its farewell.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import hpack

from harness.load.links.http2_frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FIRST_FRAME,
    FIRST_WINDOW,
    FRAME,
    FRAME_BYTES,
    GOAWAY,
    GOODBYE,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    LAST_STREAM,
    MAX_FRAME_SIZE,
    NUMBER,
    PING,
    PING_BYTES,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RESERVED,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    unpadded,
)
from harness.load.links.http_answer import LARGEST_BODY, LARGEST_HEAD, malformed
from harness.load.outcomes import FailedRequestError
from harness.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.load.links.connection import Connection

__all__ = ["Call", "Http2"]

MUCH = LARGEST_WINDOW // 2  # bytes after which the server is told that it may send as many again
BLOCKS_KEPT, LONGEST_KEPT = 256, 1024  # blocks of headers whose meaning is kept, and their bytes
MOST_PARTS = 100_000  # of a body


@dataclass(slots=True)
class Call:
    """A call, and what has come of it.

    Attributes:
        stream: its number on the connection.
        window: how many bytes of its body may be sent now.
        head, trailers: headers before and after the body; the same where there was nothing else.
        parts: the body, in pieces.
        size: of the body.
        ended: whether the response is whole.
    """

    stream: int
    window: int
    head: Mapping[str, str] = field(default_factory=dict)
    trailers: Mapping[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    ended: bool = False

    @property
    def body(self) -> bytes:
        """The response's body."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class Http2:
    """What two ends of an open connection know of each other.

    Args:
        connection: just opened, nothing sent yet.

    Attributes:
        is_last: whether the server takes no more calls on this connection.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._decoder = hpack.Decoder(LARGEST_HEAD)
        self._decoder.header_table_size = self._decoder.max_allowed_table_size = 0
        self._meanings: dict[bytes, dict[str, str]] = {}
        self._data, self._place = b"", 0
        self._block: tuple[int, int, bytes] | None = None  # headers that are not whole yet
        self._stream = -1
        self._window = self._initial_window = FIRST_WINDOW
        self._largest_frame = FIRST_FRAME
        self._taken = 0  # bytes since the server was last told that it may send more
        self.is_last = False
        settings = (
            (HEADER_TABLE_SIZE, 0),
            (ENABLE_PUSH, 0),
            (INITIAL_WINDOW_SIZE, LARGEST_WINDOW),
            (MAX_FRAME_SIZE, LARGEST_FRAME),
        )
        said = b"".join(SETTING.pack(*setting) for setting in settings)
        more = NUMBER.pack(LARGEST_WINDOW - FIRST_WINDOW)
        connection.send(PREFACE + frame(SETTINGS, 0, 0, said) + frame(WINDOW_UPDATE, 0, 0, more))

    def call(self, block: bytes, body: bytes) -> Call:
        """Send a request and wait for the whole response.

        Args:
            block: its headers, from :func:`harness.load.links.http2_frames.header_block`.
            body: its body, of one byte or more.

        Raises:
            FailedRequestError: there was none, or it is no HTTP/2.
            OSError: the connection broke.
        """
        self._stream = stream = self._stream + 2
        self.is_last = self.is_last or stream >= LAST_STREAM
        call = Call(stream, self._initial_window)
        size = len(body)
        fits = size <= min(self._largest_frame, self._window, self._initial_window)
        if fits and len(block) <= FIRST_FRAME:
            self._window -= size
            head = FRAME.pack(len(block) >> 8, len(block) & 0xFF, HEADERS, END_HEADERS, stream)
            data = FRAME.pack(size >> 8, size & 0xFF, DATA, END_STREAM, stream)
            self._connection.send(b"".join((head, block, data, body)))
        else:
            self._send_in_pieces(call, block, body)
        while not call.ended:
            self._step(call)
        while self._next_frame(call):  # what came along with the answer, such as a farewell
            pass
        return call

    def heed(self, data: bytes) -> None:
        """Take what came while no call was in flight.

        Raises:
            FailedRequestError: it is no HTTP/2.
            OSError: the connection broke.
        """
        self._data, self._place = self._data[self._place :] + data, 0
        nothing = Call(0, 0)
        while self._next_frame(nothing):
            pass

    def _send_in_pieces(self, call: Call, block: bytes, body: bytes) -> None:
        """Send no more than the server takes at once, and wait for its leave to go on."""
        first, rest = block[:FIRST_FRAME], block[FIRST_FRAME:]
        frames = frame(HEADERS, 0 if rest else END_HEADERS, call.stream, first)
        while rest:
            first, rest = rest[:FIRST_FRAME], rest[FIRST_FRAME:]
            frames += frame(CONTINUATION, 0 if rest else END_HEADERS, call.stream, first)
        self._connection.send(frames)
        sent = 0
        while sent < len(body) and not call.ended:
            size = min(len(body) - sent, self._largest_frame, self._window, call.window)
            if size <= 0:
                self._step(call)
                continue
            self._window -= size
            call.window -= size
            piece = body[sent : sent + size]
            sent += size
            last = END_STREAM if sent == len(body) else 0
            self._connection.send(frame(DATA, last, call.stream, piece))
        if sent < len(body):  # it was answered before it was heard out
            self._connection.send(frame(RST_STREAM, 0, call.stream, NUMBER.pack(CANCEL)))

    def _step(self, call: Call) -> None:
        """Take the next frame, or wait for more of it."""
        if self._next_frame(call):
            return
        data = self._connection.receive()
        if not data:
            raise FailedRequestError(Outcome.RESET, "the server closed the connection")
        self._data, self._place = self._data[self._place :] + data, 0

    def _next_frame(self, call: Call) -> bool:
        """Do what the next frame says; ``False`` where it is not whole yet."""
        data, place = self._data, self._place
        start = place + FRAME_BYTES
        if len(data) < start:
            return False
        high, low, kind, flags, stream = FRAME.unpack_from(data, place)
        stream &= RESERVED
        end = start + (high << 8 | low)
        if end - start > LARGEST_FRAME:
            raise malformed(f"it is no HTTP/2: {data[place : place + 40]!r}")
        if len(data) < end:
            return False
        self._place = end
        if self._block is not None and kind != CONTINUATION:
            raise malformed("headers that do not go on")
        heed = HEEDED.get(kind)
        if heed is not None:  # else it is of an extension, and to be ignored
            try:
                heed(self, call, flags, stream, data[start:end])
            except struct.error as error:
                raise malformed(f"a frame of type {kind} with {end - start} bytes") from error
        return True

    def _take_data(self, call: Call, flags: int, stream: int, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken > MUCH:
            self._connection.send(frame(WINDOW_UPDATE, 0, 0, NUMBER.pack(self._taken)))
            self._taken = 0
        if stream != call.stream or call.ended:
            return
        if part := unpadded(flags & ~PRIORITY, payload):
            call.parts.append(part)
        call.size += len(part)
        if call.size > LARGEST_BODY or len(call.parts) > MOST_PARTS:
            raise malformed(f"more than {LARGEST_BODY} bytes, or more than {MOST_PARTS} pieces")
        call.ended = bool(flags & END_STREAM)

    def _take_headers(self, call: Call, flags: int, stream: int, payload: bytes) -> None:
        self._block = (stream, flags, unpadded(flags, payload))
        self._take_block(call, whole=bool(flags & END_HEADERS))

    def _take_continuation(self, call: Call, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream:
            raise malformed("headers that never began")
        self._block = (*self._block[:2], self._block[2] + payload)
        self._take_block(call, whole=bool(flags & END_HEADERS))

    def _take_block(self, call: Call, *, whole: bool) -> None:
        """Take headers once they are whole."""
        assert self._block is not None  # noqa: S101 - whoever calls has set it
        stream, flags, block = self._block
        if len(block) > LARGEST_HEAD:
            raise malformed(f"headers of more than {LARGEST_HEAD} bytes")
        if not whole:
            return
        self._block = None
        if stream != call.stream or call.ended:
            return
        fields = self._meanings.get(block) or self._decoded(block)
        if not call.head and not fields.get(":status", "").startswith("1"):
            call.head = fields
        if flags & END_STREAM:
            call.trailers = fields
            call.ended = True

    def _decoded(self, block: bytes) -> dict[str, str]:
        try:
            fields = {str(name): str(value) for name, value in self._decoder.decode(block)}
        except hpack.HPACKError as error:
            # Its text may hold what we sent ourselves, secrets included.
            raise malformed(f"headers that cannot be read ({type(error).__name__})") from error
        if len(block) <= LONGEST_KEPT:
            if len(self._meanings) >= BLOCKS_KEPT:  # such as with a date in each
                self._meanings.clear()
            self._meanings[block] = fields
        return fields

    def _take_settings(self, call: Call, flags: int, _stream: int, payload: bytes) -> None:
        if flags & ACK:
            return
        for name, value in SETTING.iter_unpack(payload):
            if name == INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise malformed(f"a window of {value} bytes")
                call.window += value - self._initial_window
                self._initial_window = value
            elif name == MAX_FRAME_SIZE:
                if value < FIRST_FRAME:
                    raise malformed(f"frames of {value} bytes")
                self._largest_frame = min(value, LARGEST_FRAME)
        self._connection.send(frame(SETTINGS, ACK, 0, b""))

    def _take_ping(self, _call: Call, flags: int, _stream: int, payload: bytes) -> None:
        if len(payload) != PING_BYTES:
            raise malformed(f"a ping of {len(payload)} bytes")
        if not flags & ACK:
            self._connection.send(frame(PING, ACK, 0, payload))

    def _take_window(self, call: Call, _flags: int, stream: int, payload: bytes) -> None:
        more = NUMBER.unpack(payload)[0] & RESERVED
        if stream == 0:
            self._window += more
        elif stream == call.stream:
            call.window += more

    def _take_reset(self, call: Call, _flags: int, stream: int, payload: bytes) -> None:
        (code,) = NUMBER.unpack(payload)
        if stream == call.stream and not call.ended:
            raise FailedRequestError(Outcome.RESET, f"the server reset the call (code {code})")

    def _take_farewell(self, call: Call, _flags: int, _stream: int, payload: bytes) -> None:
        last, code = GOODBYE.unpack_from(payload)
        self.is_last = True
        if call.stream > last & RESERVED and not call.ended:
            said = f"the server takes no more calls (GOAWAY, code {code})"
            raise FailedRequestError(Outcome.RESET, said)


def _refuse_promise(*_: object) -> None:
    raise malformed("a promise that nobody asked for")


# ruff: noqa: SLF001 - its own methods, by the type of the frame
HEEDED: dict[int, Callable[[Http2, Call, int, int, bytes], None]] = {
    DATA: Http2._take_data,
    HEADERS: Http2._take_headers,
    RST_STREAM: Http2._take_reset,
    SETTINGS: Http2._take_settings,
    PUSH_PROMISE: _refuse_promise,
    PING: Http2._take_ping,
    GOAWAY: Http2._take_farewell,
    WINDOW_UPDATE: Http2._take_window,
    CONTINUATION: Http2._take_continuation,
}
