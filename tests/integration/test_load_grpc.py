"""Our sender over gRPC: against gRPC's own server, and against one that does what that one never does."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
import threading
import time
from typing import TYPE_CHECKING, BinaryIO

import gevent
import grpc
import pytest
from tritonclient.grpc import service_pb2

from harness.load.links.grpc_link import PREFIX, GrpcLink
from harness.load.links.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    FRAME_BYTES,
    GOAWAY,
    GOODBYE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    SETTING,
    SETTINGS,
    frame,
    header_block,
)
from harness.load.links.watchdog import Watchdog
from harness.load.outcomes import FailedRequestError
from harness.records import Outcome
from tests.footprint import wait_until
from tests.garbage import uncollected
from tests.grpc_server import Call, answer, grpc_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LARGE = 3 * 2**20  # gRPC's own server takes 4 MiB
PATIENCE_S = 60.0  # where no time-out is wanted, and this machine may be busy


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    made = Watchdog()
    yield made
    made.close()


def request(x: bytes) -> bytes:
    return bytes(service_pb2.ModelInferRequest(raw_input_contents=[x]).SerializeToString())


def echo(call: Call) -> bytes:
    return answer(call.x)


@pytest.mark.parametrize("size", [0, 1, 65_530, 100_000, LARGE])
def test_messages_of_any_size_go_both_ways(watchdog: Watchdog, size: int) -> None:
    with grpc_server(echo) as server:
        link = GrpcLink(server.address, watchdog)
        link.open(PATIENCE_S)
        for round_ in range(3):
            x = bytes([round_]) * size
            raw = link.exchange(request(x), (), PATIENCE_S)
            assert service_pb2.ModelInferResponse.FromString(raw).raw_output_contents[0] == x
        assert link.connections == 1
        link.close()


def test_more_than_the_server_takes_is_refused_and_the_connection_goes_on(
    watchdog: Watchdog,
) -> None:
    with grpc_server(echo) as server:
        link = GrpcLink(server.address, watchdog)
        link.open(PATIENCE_S)
        for _ in range(2):
            with pytest.raises(FailedRequestError, match="RESOURCE_EXHAUSTED") as failed:
                link.exchange(request(b"x" * (5 * 2**20)), (), PATIENCE_S)
            assert failed.value.outcome is Outcome.HTTP_4XX
        link.exchange(request(b"x"), (), PATIENCE_S)
        assert link.connections == 1
        link.close()


class Scripted:
    """A server on loopback that answers each call with what it is told, and says its settings first."""

    def __init__(self, reply: Callable[[int], bytes], settings: bytes = b"") -> None:
        self._reply = reply
        self._settings = settings
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.greeted = 0
        self._latest: socket.socket
        threading.Thread(target=self._serve, daemon=True).start()

    def say(self, data: bytes) -> None:
        """Say something on the latest connection, and wait until it has arrived."""
        self._latest.sendall(data)
        wait_until(lambda: not unacknowledged(self._latest), PATIENCE_S, "it has arrived")

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            file = connection.makefile("rb")
            assert read(file, len(PREFACE)) == PREFACE
            self.greeted += 1
            self._latest = connection
            connection.sendall(frame(SETTINGS, 0, 0, self._settings))
            while True:
                high, low, kind, flags, stream = FRAME.unpack(read(file, FRAME_BYTES))
                read(file, high << 8 | low)
                if kind == DATA and flags & END_STREAM:
                    connection.sendall(self._reply(stream))


def unacknowledged(connection: socket.socket) -> int:
    """The bytes that were sent, and of which it is not known that the other end has them (tcp(7), SIOCOUTQ)."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])


def read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def replied(stream: int, message: bytes = b"", status: str = "0") -> bytes:
    """A whole answer."""
    head = header_block([(":status", "200"), ("content-type", "application/grpc")])
    return (
        frame(HEADERS, END_HEADERS, stream, head)
        + frame(DATA, 0, stream, PREFIX.pack(0, len(message)) + message)
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, header_block([("grpc-status", status)]))
    )


@contextlib.contextmanager
def scripted(reply: Callable[[int], bytes], settings: bytes = b"") -> Iterator[Scripted]:
    server = Scripted(reply, settings)
    try:
        yield server
    finally:
        server.close()


def test_after_a_farewell_comes_a_new_connection(watchdog: Watchdog) -> None:
    def once(stream: int) -> bytes:
        last = frame(GOAWAY, 0, 0, GOODBYE.pack(stream, 0)) if stream > 1 else b""
        return replied(stream, b"m") + last

    with scripted(once) as server:
        link = GrpcLink(server.address, watchdog)
        for number in range(3):
            assert not link.is_open
            link.open(PATIENCE_S)
            assert link.exchange(b"?", (), PATIENCE_S) == b"m"
            assert link.connections == number + 1
    assert server.greeted == 3


def test_what_is_said_while_nothing_is_sent_is_heeded(watchdog: Watchdog) -> None:
    """In pieces, even: a ping is no reason to leave, a farewell is."""
    with scripted(lambda stream: replied(stream, b"m")) as server:
        link = GrpcLink(server.address, watchdog)
        link.open(PATIENCE_S)
        ping = frame(PING, 0, 0, b"12345678")
        for said in (ping[:5], ping[5:]):
            server.say(said)
            link.drop_if_stale()
            assert link.is_open
        assert link.exchange(b"?", (), PATIENCE_S) == b"m"
        server.say(frame(GOAWAY, 0, 0, GOODBYE.pack(3, 0)))
        link.drop_if_stale()
        assert not link.is_open


def test_a_server_that_is_not_live_is_not_connected_to(watchdog: Watchdog) -> None:
    with scripted(lambda stream: replied(stream, status="12")) as server:
        link = GrpcLink(server.address, watchdog)
        for _ in range(2):
            with pytest.raises(FailedRequestError, match="UNIMPLEMENTED"):
                link.open(PATIENCE_S)
            assert not link.is_open


def test_a_server_that_takes_no_call_after_the_first_is_said_to(watchdog: Watchdog) -> None:
    """Such as a proxy with one request a connection: that is no refused connection."""
    with scripted(
        lambda stream: replied(stream) + frame(GOAWAY, 0, 0, GOODBYE.pack(stream, 0))
    ) as server:
        link = GrpcLink(server.address, watchdog)
        with pytest.raises(FailedRequestError, match="takes no more calls") as failed:
            link.open(PATIENCE_S)
        assert failed.value.outcome is Outcome.RESET
        assert not link.is_open


def test_a_call_that_fails_leaves_no_garbage(watchdog: Watchdog) -> None:
    """None is collected while load is sent, and a full queue refuses thousands a second."""
    full = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
    with grpc_server(lambda call: call.refuse(*full)) as server:
        link = GrpcLink(server.address, watchdog)
        link.open(PATIENCE_S)
        with uncollected() as left:
            for _ in range(100):
                with contextlib.suppress(FailedRequestError):
                    link.exchange(request(b"x"), (), PATIENCE_S)
        assert link.connections == 1
        link.close()
    assert left() < 100


def test_a_window_that_never_opens_ends_at_the_deadline(watchdog: Watchdog) -> None:
    with scripted(replied, SETTING.pack(INITIAL_WINDOW_SIZE, 100)) as server:
        link = GrpcLink(server.address, watchdog)
        link.open(PATIENCE_S)
        started = time.monotonic()
        with pytest.raises(FailedRequestError) as failed:
            link.exchange(b"?" * 1000, (), 0.2)
        assert failed.value.outcome is Outcome.TIMEOUT
        assert time.monotonic() - started < PATIENCE_S / 2


def test_a_user_that_is_ended_amid_a_call_leaves_no_half_of_it(watchdog: Watchdog) -> None:
    with grpc_server(Call.keep_silent) as server:
        link = GrpcLink(server.address, watchdog)
        link.open(PATIENCE_S)
        user = gevent.spawn(link.exchange, request(b"x"), (), PATIENCE_S)
        gevent.sleep(0.1)
        user.kill()
        assert not link.is_open
        server.behaviour = echo
        link.open(PATIENCE_S)
        assert link.exchange(request(b"y"), (), PATIENCE_S)
        link.close()


def test_a_server_that_has_gone_meanwhile_is_noticed(watchdog: Watchdog) -> None:
    with grpc_server(echo) as server:
        link = GrpcLink(server.address, watchdog)
        link.open(PATIENCE_S)
        link.exchange(request(b"x"), (), PATIENCE_S)
        link.drop_if_stale()
        assert link.is_open
    wait_until(lambda: select.select([link._connection._socket], [], [], 0)[0], PATIENCE_S)
    link.drop_if_stale()
    assert not link.is_open
    with pytest.raises(FailedRequestError) as failed:
        link.open(PATIENCE_S)
    assert failed.value.outcome in (Outcome.REFUSED, Outcome.RESET)


def test_silence_ends_at_the_deadline(watchdog: Watchdog) -> None:
    with grpc_server(Call.keep_silent) as server:
        link = GrpcLink(server.address, watchdog)
        link.open(PATIENCE_S)
        started = time.monotonic()
        with pytest.raises(FailedRequestError) as failed:
            link.exchange(request(b"x"), (), 0.2)
        assert time.monotonic() - started < PATIENCE_S / 2
        assert failed.value.outcome is Outcome.TIMEOUT
        assert not link.is_open
