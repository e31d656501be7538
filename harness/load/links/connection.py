"""One user's connection to a server, waited for in gevent's hub, with a deadline that the watchdog keeps.

A request is one ``send``, one wait, one ``recv``: half of the CPU time that gevent's own socket takes, whose
``recv`` first tries in vain and then starts a timer.
"""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import gevent
import gevent.monkey
import gevent.socket

from harness.access import tls_reason
from harness.load.links.tls import TlsSocket
from harness.load.outcomes import FailedRequestError, socket_outcome
from harness.records import Outcome

if TYPE_CHECKING:
    import socket

    from harness.load.links.watchdog import Watchdog

__all__ = ["Connection"]

RECEIVE_BYTES = 64 * 1024  # below what the C library maps anew each time
READ, WRITE = 1, 2  # libev's events


class Connection:
    """A socket that can be opened again and again.

    Args:
        address: ``host:port``.
        watchdog: ends what takes too long.
        context: of TLS; a plain socket where ``None``.

    Attributes:
        opened: how often.
        deadline_ns: for the watchdog.
    """

    def __init__(
        self, address: str, watchdog: Watchdog, context: ssl.SSLContext | None = None
    ) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port or 0))
        self._watchdog = watchdog
        self._hub = gevent.get_hub()
        self._context = context
        self._socket: socket.socket | TlsSocket | None = None
        self._expired = False
        self.opened = 0
        self.deadline_ns = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return self._socket is not None

    @property
    def is_over(self) -> bool:
        """Whether the watchdog has ended it: what came just before is still right, and nothing can follow."""
        return self._expired

    def open(self, timeout_s: float) -> None:
        """Connect, unless it is connected.

        Raises:
            FailedRequestError: nobody is there.
        """
        if self._socket is not None:
            return
        try:
            connection = gevent.socket.create_connection(self._address, timeout_s)
            connection.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        except OSError as error:
            raise FailedRequestError(socket_outcome(error), f"connect: {error}") from error
        tls = None
        if self._context is not None:
            tls = TlsSocket(connection, self._context, self._address[0])
            try:
                tls.shake_hands(connection)
            except OSError as error:
                connection.close()
                raise FailedRequestError(
                    _tls_outcome(error), f"TLS: {tls_reason(error)}"
                ) from error
        original = gevent.monkey.get_original("socket", "socket")
        plain = original(connection.family, connection.type, fileno=connection.detach())
        plain.settimeout(0)
        if tls is not None:
            tls.take(plain)
        self._socket = tls or plain
        self._readable = self._hub.loop.io(self._socket.fileno(), READ)
        self._expired = False
        self._watchdog.add(self)
        self.opened += 1

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._socket is not None:
            self._watchdog.remove(self)
            self._readable.close()
            self._socket.close()
            self._socket = None

    def within(self, timeout_s: float) -> None:
        """What is sent and received from now on has to be done within ``timeout_s``.

        Raises:
            FailedRequestError: it is not connected.
        """
        if self._socket is None:
            raise FailedRequestError(Outcome.REFUSED, "not connected")
        self.deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)

    def expire(self) -> None:
        """End the wait that is under way: it returns at once, and there is nothing to read."""
        self._expired = True
        if self._socket is not None:
            try:
                self._socket.shutdown(gevent.socket.SHUT_RDWR)
            except OSError:
                self.deadline_ns = 0  # the peer was faster, and the wait ends by itself

    def failure(self, error: BaseException) -> BaseException:
        """What an error that ended an exchange means: itself, unless it is of the socket or of the deadline."""
        if not isinstance(error, Exception):  # the user is ended
            return error
        if self._expired:
            return FailedRequestError(Outcome.TIMEOUT, "no answer in time")
        if isinstance(error, OSError):
            return FailedRequestError(socket_outcome(error), str(error))
        return error

    def send(self, data: bytes) -> None:
        """Send all of ``data``.

        Raises:
            OSError: the connection broke.
        """
        connection = self._connected()
        try:
            sent = connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._send_rest(connection, data, sent)

    def receive(self) -> bytes:
        """What comes next, after a wait for it; nothing where the server has closed the connection.

        Raises:
            OSError: the connection broke.
        """
        connection = self._connected()
        while True:
            self._hub.wait(self._readable)
            try:
                return connection.recv(RECEIVE_BYTES)
            except BlockingIOError:  # with TLS: a record that is not whole yet, or none of ours
                continue

    def receive_now(self) -> bytes | None:
        """What has come by now; nothing where the server has closed the connection, ``None`` where it is quiet."""
        try:
            return self._connected().recv(RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _connected(self) -> socket.socket | TlsSocket:
        if self._socket is None:
            raise ConnectionResetError("the connection was closed")
        return self._socket

    def _send_rest(self, connection: socket.socket | TlsSocket, data: bytes, sent: int) -> None:
        """Send what the socket's buffer did not take at once."""
        view = memoryview(data)
        writable = self._hub.loop.io(connection.fileno(), WRITE)
        try:
            while sent < len(view):
                self._hub.wait(writable)
                try:
                    sent += connection.send(view[sent:])
                except BlockingIOError:
                    continue
        finally:
            writable.close()


def _tls_outcome(error: OSError) -> Outcome:
    """What to call a failed handshake: a certificate that is not accepted is no broken connection."""
    return Outcome.OTHER if isinstance(error, ssl.SSLError) else socket_outcome(error)
