"""A container registry on loopback: what an engine asks of one to pull an image, and where it breaks off.

It speaks as much of the registry's HTTP interface, version 2, as a pull takes
(https://distribution.github.io/distribution/spec/api/). An engine asks 127.0.0.0/8 without TLS.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Registry", "layer", "registry"]

DOCKER = "application/vnd.docker"
MANIFEST = f"{DOCKER}.distribution.manifest.v2+json"


@dataclass
class Registry:
    """What it serves: one repository of one image.

    Attributes:
        port: where it listens on 127.0.0.1.
        blobs: the image's configuration and layers, by digest.
        manifest: the image's manifest.
        on_half: called when half of the largest layer, or of the rest of it that was asked for, has been sent;
            it breaks off there where this answers true.
    """

    port: int
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifest: bytes = b""
    on_half: Callable[[], bool] = lambda: False

    @property
    def image(self) -> str:
        """The image's name."""
        return f"127.0.0.1:{self.port}/triton:test"

    @property
    def digest(self) -> str:
        """The image's digest, as the registry knows it."""
        return digest_of(self.manifest)

    @property
    def size_bytes(self) -> int:
        """Of its layers, as they are sent."""
        return sum(entry["size"] for entry in json.loads(self.manifest)["layers"])

    def put(self, layers: list[bytes], configuration: Mapping[str, object]) -> None:
        """Serve an image of these layers, each a tar archive."""
        rootfs = {"type": "layers", "diff_ids": [digest_of(each) for each in layers]}
        config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, **configuration}
        packed = [gzip.compress(each, 1) for each in layers]
        parts = [json.dumps(config).encode(), *packed]
        self.blobs = {digest_of(part): part for part in parts}
        types = [f"{DOCKER}.container.image.v1+json"]
        types += [f"{DOCKER}.image.rootfs.diff.tar.gzip"] * len(layers)
        first, *rest = (
            {"mediaType": type_, "size": len(part), "digest": digest_of(part)}
            for type_, part in zip(types, parts, strict=True)
        )
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": first, "layers": rest}
        self.manifest = json.dumps(manifest).encode()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer(files: Mapping[str, bytes]) -> bytes:
    """A layer with these files, all executable."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


@contextmanager
def registry() -> Iterator[Registry]:
    """A registry that serves until the block ends; then its port is closed."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Visit) as server:
        server.registry = Registry(server.server_address[1])  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.registry  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


class Visit(BaseHTTPRequestHandler):
    """One connection of an engine."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        held: Registry = self.server.registry  # type: ignore[attr-defined]
        *_, kind, last = self.path.split("/")
        if self.path == "/v2/":
            self._send(b"{}", "application/json")
        elif kind == "manifests" and last in {"test", held.digest}:
            self._send(held.manifest, MANIFEST)
        elif kind == "blobs" and last in held.blobs:
            self._send(held.blobs[last], "application/octet-stream")
        else:
            self.send_error(404)

    def _send(self, content: bytes, type_: str) -> None:
        held: Registry = self.server.registry  # type: ignore[attr-defined]
        # After a break an engine asks for the rest.
        start = int(self.headers.get("Range", "bytes=0-").strip("bytes=-"))
        whole, rest = len(content), content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("Content-Type", type_)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("Docker-Content-Digest", digest_of(content))
        with contextlib.suppress(ConnectionError):  # an engine that is done may go at any moment
            self.end_headers()
            if self.command == "GET":
                self._send_body(rest, largest=whole == max(map(len, held.blobs.values())))

    def _send_body(self, rest: bytes, *, largest: bool) -> None:
        held: Registry = self.server.registry  # type: ignore[attr-defined]
        half = len(rest) // 2 if largest else len(rest)
        self.wfile.write(rest[:half])
        if half < len(rest) and held.on_half():
            self.close_connection = True
        else:
            self.wfile.write(rest[half:])

    def log_message(self, *_: object) -> None:
        pass
