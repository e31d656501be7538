"""A small KServe v2 server that is not Triton: HTTP alone, JSON tensors, one identity model, no extensions."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["kserve"]

TENSOR = {"datatype": "FP32", "shape": [-1, 4]}


@contextmanager
def kserve(
    name: str = "minimal",
    version: str = "1.2",
    extensions: tuple[str, ...] = (),
    metadata: dict[str, Any] | None = None,
    silent: threading.Event | None = None,
    inferred: list[str] | None = None,
    **answers: Any,
) -> Iterator[int]:
    """Run it on loopback; yield its port.

    Args:
        name: what it calls itself.
        version: likewise.
        extensions: what it says that it offers.
        metadata: what it says of its model; the truth where ``None``.
        silent: while it is set, nothing is answered.
        inferred: grows with each inference that is asked for.
        answers: JSON objects to answer with at ``/v2/models/echo/<key>``.
    """
    said = {"name": name, "version": version, "extensions": list(extensions)}
    model = {"name": "echo", "versions": ["1"], "platform": name}
    model |= {"inputs": [{"name": "X", **TENSOR}], "outputs": [{"name": "Y", **TENSOR}]}
    known = {
        "/v2": said,
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/echo": metadata or model,
        "/v2/models/echo/ready": {"ready": True},
        **{f"/v2/models/echo/{key}": answer for key, answer in answers.items()},
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._wait()
            answer = known.get(self.path)
            self._send(200 if answer else 404, answer or {"error": f"nothing at {self.path}"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._wait()
            if self.path != "/v2/models/echo/infer":
                self._send(404, {"error": f"nothing at {self.path}"})
                return
            if inferred is not None:
                inferred.append(self.path)
            tensor = json.loads(body)["inputs"][0]
            outputs = [{**tensor, "name": "Y"}]
            self._send(200, {"model_name": "echo", "model_version": "1", "outputs": outputs})

        def _wait(self) -> None:
            while silent is not None and silent.is_set():
                time.sleep(0.02)

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    # So that a head and a body in two writes are not held back for an acknowledgement.
    Handler.wbufsize = -1
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
