"""Triton's metrics, from real and from hostile text; the file without a GPU is a real server's own."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.asking import LARGEST_ANSWER_BYTES
from harness.servers.readings import metrics
from harness.servers.readings.metrics import (
    MOST_METRICS,
    TritonMetrics,
    parse_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEXTS = Path(__file__).parents[1] / "data" / "metrics"


def text(name: str) -> str:
    return (TEXTS / name).read_text(encoding="utf-8")


def test_a_servers_own_text_is_read_whole() -> None:
    read = parse_metrics(text("triton-2.51-cpu.txt"))
    names = {name for name, _, _ in read}
    assert len(read) == 31
    assert {
        "nv_inference_pending_request_count",
        "nv_cpu_utilization",
        "nv_inference_count",
    } <= names
    (pending,) = [
        (json.loads(labels), value)
        for name, labels, value in read
        if name == "nv_inference_pending_request_count" and "sleep" in labels
    ]
    assert pending == ({"model": "sleep", "version": "1"}, 0.0)
    assert ("nv_cpu_memory_total_bytes", "{}") in {(name, labels) for name, labels, _ in read}


def test_a_gpus_metrics_are_read() -> None:
    read = {
        name: (json.loads(labels), value)
        for name, labels, value in parse_metrics(text("triton-gpu.txt"))
    }
    gpu = {"gpu_uuid": "GPU-00000000-0000-0000-0000-000000000001"}
    assert read["nv_energy_consumption"] == (gpu, 1234.567)
    assert read["nv_gpu_power_usage"] == (gpu, 212.5)
    assert read["nv_gpu_utilization"] == (gpu, 0.64)


def test_other_models_are_left_out_and_the_machine_is_not() -> None:
    read = parse_metrics(text("triton-2.51-cpu.txt"), {"identity"})
    models = {json.loads(labels).get("model") for _, labels, _ in read}
    assert models == {"identity", None}


def test_what_has_no_number_is_left_out() -> None:
    read = parse_metrics('nv_gpu_utilization{gpu_uuid="a"} NaN\nnv_gpu_power_usage +Inf\nnv_x 3\n')
    assert read == [("nv_x", "{}", 3.0)]


@pytest.mark.parametrize(
    "broken",
    ['nv_x{model="a" 3', "nv_x", "nv_x{} three", "nv_x }{ 3", "nv_x{model=a} 1"],
)
def test_what_is_no_such_text_is_a_value_error(broken: str) -> None:
    with pytest.raises(ValueError, match="text format"):
        parse_metrics(f"{broken}\n")


def test_too_many_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
        parse_metrics("".join(f'nv_x{{a="{i}"}} 1\n' for i in range(MOST_METRICS + 1)))


def test_a_name_without_end_is_left_out() -> None:
    assert parse_metrics(f'nv_x{{a="{"y" * 1000}"}} 1\nnv_x 2\n') == [("nv_x", "{}", 2.0)]


@given(st.text() | st.text().map(lambda rest: f"nv_a{rest}"))
def test_any_text_is_read_or_refused(anything: str) -> None:
    try:
        read = parse_metrics(anything)
    except ValueError:
        return
    assert all(isinstance(value, float) for _, _, value in read)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Serve connections with a function, on loopback; give the address."""
    listeners = []

    def start(answer: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        answer(connection)
            except OSError:
                return

        threading.Thread(target=run, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def test_an_answer_is_fetched_and_read(
    serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "DEADLINE_S", 60.0)  # this process may be held up
    address = serve(lambda connection: connection.sendall(OK + text("triton-gpu.txt").encode()))
    assert len(TritonMetrics(address).read()) == 8


def sends(
    start: bytes, again: bytes = b"", every_s: float = 0.0
) -> Callable[[socket.socket], None]:
    """Answer with a start, and with something again and again."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while again:
            connection.sendall(again)
            time.sleep(every_s)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        sends(OK, b"nv_x 1\n" * 10_000),
        sends(OK, b"n", every_s=0.05),
        sends(b"HTTP/1.1 200 OK\r\nX: " + b"y" * LARGEST_ANSWER_BYTES + b"\r\n\r\n"),
        sends(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", every_s=0.05),
        sends(b"", b"HTTP/1.1 100 Continue\r\n\r\n", every_s=0.05),
        sends(b"this is no HTTP at all\r\n\r\n"),
        sends(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
        lambda connection: connection.recv(1),
    ],
    ids=["endless", "dripping", "long head", "dripping head", "hints", "broken", "503", "silent"],
)
def test_a_hostile_answer_is_short_and_small(
    serve: Callable[..., str], answer: Callable[[socket.socket], None]
) -> None:
    with pytest.raises((OSError, ValueError)):
        TritonMetrics(serve(answer)).read()


def test_a_port_that_has_gone_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(OSError, match="nobody listens"):
        TritonMetrics(address).read()
