"""TLS over a plain socket that never blocks, in memory: what a :class:`Connection` sends and receives by.

Python's own ``SSLSocket`` is gevent's in this process, and waits where the link itself wants to wait.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

__all__ = ["TlsSocket"]

CHUNK_BYTES = 64 * 1024


class TlsSocket:
    """A connected socket with TLS, used as a plain one; see :mod:`socket` for what is not said here.

    Args:
        connection: the socket; it may block while :meth:`shake_hands` is under way, and not afterwards.
        context: whom to trust, and what to show.
        host: the name, or the address, that the server's certificate must be for.
    """

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._socket = connection
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._unsent = b""
        self._claimed = 0

    def shake_hands(self, connection: socket.socket) -> None:
        """Agree with the server, over ``connection``, which waits for what it does.

        Raises:
            OSError: they do not agree, or the connection broke.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                connection.sendall(self._outgoing.read())
                if data := connection.recv(CHUNK_BYTES):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                connection.sendall(self._outgoing.read())  # the alert, so that the server knows why
                raise
            else:
                connection.sendall(self._outgoing.read())
                return

    def take(self, connection: socket.socket) -> None:
        """Go on over another socket of the same connection."""
        self._socket = connection

    def send(self, data: bytes | memoryview) -> int:
        """Send some of ``data``, which goes on with what an earlier call did not send.

        Raises:
            BlockingIOError: nothing could be sent now.
        """
        if not self._claimed:
            self._claimed = self._tls.write(data[:CHUNK_BYTES])
            self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        claimed, self._claimed = self._claimed, 0
        return claimed

    def recv(self, size: int, _flags: int = 0) -> bytes:
        """All that has come and is whole; a little more than ``size`` at most, and nothing stays behind.

        Raises:
            BlockingIOError: nothing whole has come.
        """
        if data := self._socket.recv(size):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        parts = []
        try:
            while part := self._tls.read(CHUNK_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError as error:
            if not parts:
                raise BlockingIOError("no whole record") from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            pass  # closed: what has come by then, and nothing after it
        if reply := self._outgoing.read():  # to an update of the keys
            self._unsent += reply
        return b"".join(parts)

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._socket.fileno()

    def shutdown(self, how: int) -> None:
        """End the connection."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the socket; the server is not told first, as it would not be by a plain one."""
        self._socket.close()
