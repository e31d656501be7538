"""An address before a server: another may take its place at once, and single connections can be cut."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Relay", "relay"]

CHUNK_BYTES = 1 << 16
RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # for SO_LINGER


class Relay:
    """Passes connections on, each port's to the server that is behind it at the moment.

    Args:
        upstream: ports on loopback by name, of the first server.
    """

    def __init__(self, upstream: Mapping[str, int]) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        # By the server's port and that which it sees, which alone may be that of two: their two ends.
        self._open: dict[tuple[str, int], tuple[socket.socket, socket.socket]] = {}
        self._listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in upstream}
        self._threads = [
            threading.Thread(target=self._accept, args=item) for item in self._listeners.items()
        ]
        for thread in self._threads:
            thread.start()

    @property
    def ports(self) -> dict[str, int]:
        """Where it listens, by name."""
        return {name: each.getsockname()[1] for name, each in self._listeners.items()}

    def switch(self, upstream: Mapping[str, int]) -> None:
        """Put another server behind it; every connection breaks, as when one is killed."""
        with self._lock:
            self._upstream = upstream
            for visitor, _ in self._open.values():
                with contextlib.suppress(OSError):  # it has just gone
                    visitor.shutdown(socket.SHUT_RDWR)

    def cut(self, name: str, port: int, *, reset: bool) -> None:
        """Break one connection: the one that the server behind ``name`` sees coming from ``port``."""
        with self._lock, contextlib.suppress(OSError, KeyError):  # it has just gone
            visitor, server = self._open[name, port]
            if reset:
                visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            # The visitor's end is closed as soon as the server's is.
            (server if reset else visitor).shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Listen no more, and break what is there."""
        for listener in self._listeners.values():
            listener.shutdown(socket.SHUT_RDWR)
        self.switch({})
        for thread in self._threads:
            thread.join()
        for listener in self._listeners.values():
            listener.close()

    def _accept(self, name: str, listener: socket.socket) -> None:
        passing = []
        with contextlib.suppress(OSError):  # it is closed
            while True:
                visitor, _ = listener.accept()
                passing.append(threading.Thread(target=self._pass, args=(name, visitor)))
                passing[-1].start()
        for thread in passing:
            thread.join()

    def _pass(self, name: str, visitor: socket.socket) -> None:
        with visitor, contextlib.suppress(OSError, KeyError):  # it breaks, or nobody is there
            with self._lock:
                server = socket.create_connection(("127.0.0.1", self._upstream[name]))
                key = name, server.getsockname()[1]
                self._open[key] = visitor, server
            with server:
                try:
                    _exchange(visitor, server)
                finally:
                    with self._lock:
                        del self._open[key]


def _exchange(visitor: socket.socket, server: socket.socket) -> None:
    """Pass on what comes until one of the two hangs up."""
    other = {visitor: server, server: visitor}
    for end in other:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        for source in select.select(list(other), [], [])[0]:
            data = source.recv(CHUNK_BYTES)
            if not data:
                return
            other[source].sendall(data)


@contextmanager
def relay(upstream: Mapping[str, int]) -> Iterator[Relay]:
    """A relay before the server with these ports."""
    made = Relay(upstream)
    try:
        yield made
    finally:
        made.close()
