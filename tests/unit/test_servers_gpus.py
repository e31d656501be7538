"""Whether a server has GPUs; the text of one that has is written by hand (see tests/data/metrics)."""

from __future__ import annotations

import http.server
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import EnvironmentFailedError
from harness.point import ServerConfiguration
from harness.servers import gpus
from harness.servers.gpus import require_gpus
from harness.servers.readings import metrics
from harness.servers.server import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEXTS = Path(__file__).parents[1] / "data" / "metrics"
CPU = ServerConfiguration(model="cnn")
GPU = ServerConfiguration(model="cnn", kind="gpu")
SECOND = ServerConfiguration(model="cnn", kind="gpu", gpus=(0, 1))


@dataclass
class Told:
    """A server of which only its endpoints and its description matter."""

    endpoints: Endpoints
    described: dict[str, Any]
    log: Path | None = None
    pids: list[Any] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        return self.described

    def processes(self) -> list[Any]:
        return self.pids

    def failure(self) -> str | None:
        return None

    def stop(self) -> None:
        pass


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Told]]:
    """A server of some kind, with the metrics of a text of ours."""
    monkeypatch.setattr(metrics, "DEADLINE_S", 60.0)  # this process may be held up
    servers = []

    def make(kind: str, text: str | None, **described: Any) -> Told:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = (TEXTS / text).read_bytes() if text else b""
                self.send_response(200 if text else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return Told(Endpoints("127.0.0.1", 0, 0, server.server_port), {"kind": kind, **described})

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without NVIDIA's driver, whatever this one has."""
    device = tmp_path / "nvidiactl"
    monkeypatch.setattr(gpus, "DEVICE", device)
    return device


@pytest.mark.parametrize(
    ("kind", "way_out"),
    [("embedded", "driver"), ("container", "server.gpus: all"), ("remote", "with GPUs")],
)
def test_no_gpu_is_one_sentence_for_every_kind_of_server(
    told: Callable[..., Told], kind: str, way_out: str
) -> None:
    server = told(kind, "triton-2.51-cpu.txt", gpus=[])
    require_gpus(server, [CPU])
    with pytest.raises(
        EnvironmentFailedError, match="the server has no GPU, and 1 instance on GPU"
    ) as caught:
        require_gpus(server, [CPU, GPU])
    assert caught.value.exit_code == 3
    assert way_out in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gpu_in_the_metrics_is_enough_and_is_counted(told: Callable[..., Told]) -> None:
    server = told("remote", "triton-gpu.txt")
    require_gpus(server, [CPU, GPU])
    with pytest.raises(EnvironmentFailedError, match=r"has 1 GPU, counted from 0, and no GPU 1"):
        require_gpus(server, [SECOND])


def test_a_server_that_does_not_say_is_judged_by_what_it_was_started_on(
    told: Callable[..., Told], no_driver: Path
) -> None:
    require_gpus(told("container", "triton-2.51-cpu.txt", gpus=["all"]), [SECOND])
    no_driver.touch()
    require_gpus(told("embedded", "triton-2.51-cpu.txt"), [SECOND])
    require_gpus(told("embedded", None), [SECOND])


def test_a_remote_server_without_metrics_is_left_to_say_so_itself(
    told: Callable[..., Told],
) -> None:
    require_gpus(told("remote", None), [GPU])
    require_gpus(Told(Endpoints("127.0.0.1", 0, 0), {"kind": "remote"}), [GPU])
