"""Every way in which a server can fail a request, over either protocol and real sockets: its outcome, and no hot loop."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import grpc
import numpy as np
import pytest

from harness.load.driver import Driver, Target
from harness.load.links.http_link import HttpLink
from harness.load.links.watchdog import Watchdog
from harness.load.outcomes import FailedRequestError
from harness.point import ClosedLoad, Workload
from harness.records import GeneratorHealth, Outcome
from harness.reference import Reference, write_reference
from tests.footprint import wait_until
from tests.garbage import uncollected
from tests.grpc_server import Call, GrpcServer, answer, grpc_server

if TYPE_CHECKING:
    from pathlib import Path

    Protocol = Literal["http", "grpc"]

Behaviour = Callable[[socket.socket, bytes], None]
SECONDS = 0.5  # for which failures are counted
MANY = 20
USERS = 2
TIMEOUT_S = 0.3
NAN = struct.pack("<f", float("nan"))
FULL = "Exceeds maximum queue size"
PATIENCE_S = 30.0  # where no time-out is wanted, and this machine may be busy


def body(y: bytes, *, shape: str = "[1,1]", model: str = "m") -> tuple[bytes, int]:
    header = (
        f'{{"model_name":"{model}","model_version":"1","outputs":[{{"name":"Y","datatype":"FP32",'
        f'"shape":{shape},"parameters":{{"binary_data_size":{len(y)}}}}}]}}'
    ).encode()
    return header + y, len(header)


def response(y: bytes, extra: str = "", **changes: str) -> bytes:
    content, header_length = body(y, **changes)
    head = (
        f"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: {header_length}\r\n{extra}"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def says(text: bytes) -> Behaviour:
    return lambda connection, _: connection.sendall(text)


def right(connection: socket.socket, x: bytes) -> None:
    connection.sendall(response(x))


def right_in_chunks(connection: socket.socket, x: bytes) -> None:
    content, header_length = body(x)
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
        b"Inference-Header-Content-Length: %d\r\n\r\n" % header_length
    )
    for start in range(0, len(content), 50):
        part = content[start : start + 50]
        connection.sendall(b"%x;note=1\r\n%s\r\n" % (len(part), part))
    connection.sendall(b"0\r\n\r\n")


def right_byte_by_byte(connection: socket.socket, x: bytes) -> None:
    for byte in response(x):
        connection.sendall(bytes([byte]))


def right_and_closing(connection: socket.socket, x: bytes) -> None:
    connection.sendall(response(x, "Connection: close\r\n"))
    connection.close()


def right_to_its_end(connection: socket.socket, x: bytes) -> None:
    """A body that ends with the connection, as HTTP/1.0 has it."""
    head, _, rest = response(x).partition(b"\r\nContent-Length: ")
    connection.sendall(head + b"\r\nConnection: close" + rest[rest.index(b"\r\n") :])
    connection.close()


def right_with_no_length(connection: socket.socket, x: bytes) -> None:
    """The same, which HTTP/1.1 need not say."""
    head, _, rest = response(x).partition(b"\r\nContent-Length: ")
    connection.sendall(head + rest[rest.index(b"\r\n") :])
    connection.close()


def right_after_hints(connection: socket.socket, x: bytes) -> None:
    connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 2 + response(x))


def stall_before_its_end(connection: socket.socket, x: bytes) -> None:
    """Of a body that ends with the connection."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + response(x)[-20:-4])
    time.sleep(10 * TIMEOUT_S)


def bytes_after_the_end(connection: socket.socket, x: bytes) -> None:
    connection.sendall(response(x) + b"HTTP/1.1 200 OK\r\n")


def hang_up(connection: socket.socket, _: bytes) -> None:
    connection.close()


def reset_midway(connection: socket.socket, x: bytes) -> None:
    connection.sendall(response(x)[:-2])
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def silence(connection: socket.socket, _: bytes) -> None:
    time.sleep(10 * TIMEOUT_S)


def drip(connection: socket.socket, x: bytes) -> None:
    for byte in response(x):
        connection.sendall(bytes([byte]))
        time.sleep(TIMEOUT_S / 10)


def endless_head(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: " + b"x" * 10_000)


def endless_trailers(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    while True:
        connection.sendall(b"X: y\r\n" * 1000)


def http(status: str, text: str) -> Behaviour:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    return says(f"{head}\r\n\r\n{text}".encode())


class FakeServer:
    """A server that answers every request in one way; x, the four bytes of its input, is told."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError, ValueError), connection:
            while True:
                while b"\r\n\r\n" not in data:
                    data += self.received(connection)
                head, _, data = data.partition(b"\r\n\r\n")
                if head.startswith(b"GET"):  # is it live?
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    continue
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                while len(data) < length:
                    data += self.received(connection)
                self.behaviour(connection, data[length - 4 : length])
                data = data[length:]

    def received(self, connection: socket.socket) -> bytes:
        if not (data := connection.recv(65536)):
            raise ValueError("closed")
        return data


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("load") / "reference.npz"
    values = np.random.default_rng(1).random((100, 1), dtype=np.float32)
    write_reference(path, Reference({"X": values}, {"Y": values}))
    return path


@pytest.fixture(scope="module", params=["raw", "tritonclient"])
def driver(
    request: pytest.FixtureRequest, reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    logs = tmp_path_factory.mktemp("logs")
    target = Target("127.0.0.1:1", None, "m", True, reference)
    with Driver(target, logs=logs, sender=request.param, seed=1) as started:
        started.name = request.param
        yield started


def run(
    driver: Driver,
    protocol: Protocol,
    address: str,
    reference: Path,
    *,
    timeout_s: float = PATIENCE_S,
    seconds: float = 0.1,
    least: int = 0,
) -> tuple[np.ndarray, GeneratorHealth]:
    """What was recorded for a while, and until there are so many outcomes and some of each user."""
    driver.pause(timeout_s=PATIENCE_S)
    driver.aim(target(protocol, address, reference))
    start = time.monotonic_ns()
    workload = Workload(protocol=protocol)
    driver.level(workload, ClosedLoad(concurrency=USERS), request_timeout_s=timeout_s)
    time.sleep(seconds)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        end = time.monotonic_ns()
        samples, fared = driver.collect(start, end)
        samples = samples[samples["done_ns"] <= end]  # load goes on until the order has arrived
        enough = len(samples) > least and len(set(samples["user"])) == USERS
        if (enough and fared.cpu_s is not None) or time.monotonic() > deadline:
            return samples, fared
        time.sleep(0.1)


def target(protocol: Protocol, address: str, reference: Path) -> Target:
    if protocol == "http":
        return Target(address, None, "m", True, reference)
    return Target("127.0.0.1:1", address, "m", True, reference)


@contextlib.contextmanager
def serving(protocol: Protocol, name: str) -> Iterator[FakeServer | GrpcServer]:
    """A server that behaves as ``name`` says."""
    if protocol == "http":
        yield FakeServer(HTTP[name])
    else:
        with grpc_server(GRPC[name]) as server:
            yield server


def plus_one(x: bytes) -> bytes:
    return struct.pack("<f", struct.unpack("<f", x)[0] + 1)


# What becomes of a request where the server behaves so: at once, and where it is given up for a while.
FAST = {
    "no bytes": Outcome.WRONG_ANSWER,
    "NaN": Outcome.WRONG_ANSWER,
    "one more": Outcome.WRONG_ANSWER,
    "another model": Outcome.WRONG_ANSWER,
    "another shape": Outcome.WRONG_ANSWER,
    "full queue": Outcome.REJECTED,
}
SLOW = {
    "not found": Outcome.HTTP_4XX,
    "broken": Outcome.HTTP_5XX,
    "hangs up": Outcome.RESET,
    "resets midway": Outcome.RESET,
    "silent": Outcome.TIMEOUT,
}
HTTP: dict[str, Behaviour] = {
    "right": right,
    "chunked": right_in_chunks,
    "byte by byte": right_byte_by_byte,
    "closing": right_and_closing,
    "to its end": right_to_its_end,
    "no bytes": says(response(b"")),
    "NaN": says(response(NAN)),
    "one more": lambda connection, x: connection.sendall(response(plus_one(x))),
    "another model": says(response(b"1234", model="n")),
    "another shape": says(response(b"1234", shape="[1]")),
    "full queue": http("503 Service Unavailable", f'{{"error":"{FULL}"}}'),
    "not found": http("404 Not Found", '{"error":"no such model"}'),
    "broken": http("500 Internal Server Error", '{"error":"oops"}'),
    "hangs up": hang_up,
    "resets midway": reset_midway,
    "silent": silence,
}
GRPC: dict[str, Callable[[Call], bytes]] = {
    "right": lambda call: answer(call.x),
    "no bytes": lambda _: answer(b""),
    "NaN": lambda _: answer(NAN),
    "one more": lambda call: answer(plus_one(call.x)),
    "another model": lambda _: answer(b"1234", model="n"),
    "another shape": lambda _: answer(b"1234", shape=(1,)),
    "full queue": lambda call: call.refuse(grpc.StatusCode.UNAVAILABLE, FULL),
    "not found": lambda call: call.refuse(grpc.StatusCode.NOT_FOUND, "no such model"),
    "broken": lambda call: call.refuse(grpc.StatusCode.INTERNAL, "oops"),
    "hangs up": lambda call: call.hang_up(reset=False),
    "resets midway": lambda call: call.hang_up(reset=True),
    "silent": Call.keep_silent,
}
RIGHT = [("http", name) for name in ("right", "chunked", "byte by byte", "closing", "to its end")]
RIGHT_FOR_RAW = {"no length": right_with_no_length, "hints": right_after_hints}
ONLY_RAW: dict[str, tuple[Behaviour, Outcome]] = {
    "no content": (says(b"HTTP/1.1 204 No Content\r\n\r\n"), Outcome.OTHER),
    "stalls before its end": (stall_before_its_end, Outcome.TIMEOUT),
    "drips": (drip, Outcome.TIMEOUT),
    "no HTTP": (says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), Outcome.OTHER),
    "endless head": (endless_head, Outcome.OTHER),
    "endless trailers": (endless_trailers, Outcome.OTHER),
    "announces too much": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n"),
        Outcome.OTHER,
    ),
    "bytes after its end": (bytes_after_the_end, Outcome.OTHER),
}
either_protocol = pytest.mark.parametrize("protocol", ["http", "grpc"])


@pytest.mark.parametrize(("protocol", "name"), [*RIGHT, ("grpc", "right")])
def test_right_answers_in_any_form(
    driver: Driver, reference: Path, protocol: Protocol, name: str
) -> None:
    with serving(protocol, name) as server:
        samples, fared = run(driver, protocol, server.address, reference, least=MANY)
    assert len(samples) > MANY
    assert set(samples["outcome"]) == {Outcome.OK}
    assert samples["compared"].mean() >= 1 / 16
    assert set(samples["user"]) == set(range(USERS))
    assert (samples["scheduled_ns"] == samples["sent_ns"]).all()
    assert (samples["done_ns"] > samples["sent_ns"]).all()
    if name not in ("closing", "to its end"):
        assert fared.reconnects == 0
    elif driver.name == "raw":  # tritonclient connects again without telling
        assert fared.reconnects >= len(samples) - 3 * USERS


@pytest.mark.parametrize("name", RIGHT_FOR_RAW)
def test_right_answers_as_proxies_may_send_them(driver: Driver, reference: Path, name: str) -> None:
    if driver.name != "raw":
        return  # its client takes them for malformed
    server = FakeServer(RIGHT_FOR_RAW[name])
    samples, _ = run(driver, "http", server.address, reference, least=MANY)
    assert set(samples["outcome"]) == {Outcome.OK}


@either_protocol
@pytest.mark.parametrize("name", FAST)
def test_wrong_answers(driver: Driver, reference: Path, protocol: Protocol, name: str) -> None:
    with serving(protocol, name) as server:
        samples, _ = run(driver, protocol, server.address, reference, least=MANY)
    assert len(samples) > MANY, "a user goes on at once, as its model does"
    assert set(samples["outcome"]) == {FAST[name]}
    assert not samples["compared"].any()


@either_protocol
@pytest.mark.parametrize("name", SLOW)
def test_failures(driver: Driver, reference: Path, protocol: Protocol, name: str) -> None:
    with serving(protocol, name) as server:
        check_failures(driver, protocol, server.address, reference, SLOW[name])


@pytest.mark.parametrize("name", ONLY_RAW)
def test_what_is_hardly_http(driver: Driver, reference: Path, name: str) -> None:
    if driver.name != "raw":
        return  # its client waits for ever, or says nothing of use
    behaviour, outcome = ONLY_RAW[name]
    check_failures(driver, "http", FakeServer(behaviour).address, reference, outcome)


@either_protocol
def test_nobody_there(driver: Driver, reference: Path, protocol: Protocol) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    check_failures(driver, protocol, address, reference, Outcome.REFUSED)


def check_failures(
    driver: Driver, protocol: Protocol, address: str, reference: Path, outcome: Outcome
) -> None:
    # So many time-outs that no single pause of this machine holds up half of them.
    timeout_s, least = (TIMEOUT_S, 7) if outcome is Outcome.TIMEOUT else (PATIENCE_S, 0)
    samples, fared = run(
        *(driver, protocol, address, reference), timeout_s=timeout_s, seconds=SECONDS, least=least
    )
    assert set(samples["outcome"]) == {outcome}
    assert set(samples["user"]) == set(range(USERS))
    # 10, 20, 40 … 500 ms between failures: six in 0.6 s for each user, then two a second, and no hot loop.
    assert len(samples) <= (8 + 2 * fared.window_s) * USERS
    took_s = (samples["done_ns"] - samples["sent_ns"]) / 1e9
    if outcome is Outcome.TIMEOUT:
        assert (took_s >= TIMEOUT_S * 0.99).all()
        assert np.median(took_s) < 5 * TIMEOUT_S  # the server takes twice as long, and more
    assert fared.cpu_s is not None
    assert fared.cpu_s < 0.75 * fared.window_s


@either_protocol
def test_a_server_that_comes_back_is_used_again(
    driver: Driver, reference: Path, protocol: Protocol
) -> None:
    with serving(protocol, "hangs up") as server:
        samples, _ = run(driver, protocol, server.address, reference)
        assert set(samples["outcome"]) == {Outcome.RESET}
        server.behaviour = {"http": HTTP, "grpc": GRPC}[protocol]["right"]

        def all_answered() -> bool:
            samples, _ = driver.collect(0, 1)
            answered = samples[samples["outcome"] == Outcome.OK]
            return set(answered["user"]) == set(range(USERS))

        wait_until(all_answered, PATIENCE_S, "an answer for each user")
        start = time.monotonic_ns()
        time.sleep(0.5)
        wait_until(lambda: len(sent_since(driver, start)) >= 10, PATIENCE_S, "more answers")
        later, fared = sent_since(driver, start), driver.collect(start, time.monotonic_ns())[1]
    assert set(later["outcome"]) == {Outcome.OK}
    assert fared.reconnects == 0, "once all were connected again"


def sent_since(driver: Driver, start_ns: int) -> np.ndarray:
    samples, _ = driver.collect(0, 1)
    return samples[samples["sent_ns"] >= start_ns]


def test_a_request_that_fails_leaves_no_garbage() -> None:
    server, watchdog = FakeServer(hang_up), Watchdog()
    link = HttpLink(server.address, watchdog)

    def fail(times: int) -> None:
        for _ in range(times):
            link.open(PATIENCE_S)
            with contextlib.suppress(FailedRequestError):
                link.exchange(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n1234", (), PATIENCE_S)

    fail(1)  # the first one imports something
    with uncollected() as left:
        fail(100)
    server.listener.close()
    watchdog.close()
    assert link.connections == 101
    assert left() < 100
