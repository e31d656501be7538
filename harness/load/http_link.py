"""Sends prepared HTTP/1.1 requests over a kept-alive connection, with as little work as possible.

A request is one ``send``, one wait in gevent's hub, one ``recv``: half of the CPU time that gevent's own
socket takes, whose ``recv`` first tries in vain and then starts a timer. Time-outs are the watchdog's.
"""

from __future__ import annotations

import re
import ssl
import time
from typing import TYPE_CHECKING

import gevent
import gevent.monkey
import gevent.socket

from harness.access import OPEN, Access, tls_reason
from harness.load.http_answer import HEAD_END, LARGEST_BODY, LARGEST_HEAD, malformed, parse_head
from harness.load.outcomes import FailedRequestError, socket_outcome
from harness.load.tls import TlsSocket
from harness.records import Outcome

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Container

    from harness.load.watchdog import Watchdog

__all__ = ["HttpLink"]

RECEIVE_BYTES = 64 * 1024
HEX = re.compile(rb"[0-9A-Fa-f]{1,8}")
READ, WRITE = 1, 2  # libev's events


class LastResponse(bytes):
    """A response after which the server closes the connection: never to be recognised at once."""


class HttpLink:
    """One user's connection.

    Args:
        address: ``host:port``.
        watchdog: ends what takes too long.
        access: what the server asks of those who come.

    Attributes:
        connections: how often it was opened.
        deadline_ns: for the watchdog.
    """

    def __init__(
        self,
        address: str,
        watchdog: Watchdog,
        access: Access = OPEN,
    ) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._watchdog = watchdog
        self._hub = gevent.get_hub()
        self._context = access.tls_context() if access.http_tls else None
        self._socket: socket.socket | TlsSocket | None = None
        self._expired = False
        self.connections = 0
        self.deadline_ns = 0

    @property
    def is_open(self) -> bool:
        """Whether an exchange may begin."""
        return self._socket is not None

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
        self.connections += 1

    def close(self) -> None:
        """Close the connection; the next exchange needs :meth:`open` first."""
        if self._socket is not None:
            self._watchdog.remove(self)
            self._readable.close()
            self._socket.close()
            self._socket = None

    def drop_if_stale(self) -> None:
        """Close a connection that the server has closed while it was idle."""
        if self._socket is not None:
            try:
                self._socket.recv(1, gevent.socket.MSG_PEEK)
            except BlockingIOError:
                return
            except OSError:
                pass
            self.close()

    def expire(self) -> None:
        """End the exchange that is under way: its wait returns at once, and there is nothing to read."""
        self._expired = True
        if self._socket is not None:
            try:
                self._socket.shutdown(gevent.socket.SHUT_RDWR)
            except OSError:
                self.deadline_ns = 0  # the peer was faster, and the wait ends by itself

    def exchange(self, request: bytes, known: Container[bytes], timeout_s: float) -> bytes:
        """Send a request and return the whole response, freed of transfer codings.

        Args:
            request: from its first byte to its last.
            known: whole responses that are likely; one of them is recognised at once.
            timeout_s: for all of it.

        Raises:
            FailedRequestError: there was none; the connection is closed then.
        """
        connection = self._socket
        if connection is None:
            raise FailedRequestError(Outcome.REFUSED, "not connected")
        self.deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        try:
            try:
                sent = connection.send(request)
            except BlockingIOError:
                sent = 0
            if sent < len(request):
                self._send_rest(connection, request, sent)
            self._hub.wait(self._readable)
            try:
                data = connection.recv(RECEIVE_BYTES)
            except BlockingIOError:  # with TLS: a record that is not whole yet, or none of ours
                data = self._more(connection)
            if data not in known:
                data = self._receive_rest(connection, data)
        except BaseException as error:
            # Also where the user was ended between request and response: the answer may still come.
            self.close()
            if self._expired:
                raise FailedRequestError(Outcome.TIMEOUT, "no answer in time") from error
            if isinstance(error, OSError):
                raise FailedRequestError(socket_outcome(error), str(error)) from error
            raise
        finally:
            self.deadline_ns = 0
        return data

    def _send_rest(self, connection: socket.socket | TlsSocket, request: bytes, sent: int) -> None:
        """Send what the socket's buffer did not take at once."""
        view = memoryview(request)
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

    def _receive_rest(self, connection: socket.socket | TlsSocket, first: bytes) -> bytes:
        """Read what is missing of a response that begins with ``first``."""
        response = _Response(first, lambda: self._more(connection))
        end = response.until(HEAD_END, 0)
        head = parse_head(bytes(response.data[:end]))
        start = end + len(HEAD_END)
        if head.length is None:
            whole = bytes(response.data[:start]) + response.chunks(start)
        else:
            response.at_least(start + head.length)
            if len(response.data) > start + head.length:
                raise malformed("bytes after its end")
            whole = bytes(response.data)
        if head.close:
            self.close()
            return LastResponse(whole)
        return whole

    def _more(self, connection: socket.socket | TlsSocket) -> bytes:
        while True:
            self._hub.wait(self._readable)
            try:
                return connection.recv(4 * RECEIVE_BYTES)
            except BlockingIOError:
                continue


def _tls_outcome(error: OSError) -> Outcome:
    """What to call a failed handshake: a certificate that is not accepted is no broken connection."""
    return Outcome.OTHER if isinstance(error, ssl.SSLError) else socket_outcome(error)


class _Response:
    """A response that is read piece by piece, within bounds."""

    def __init__(self, first: bytes, more: Callable[[], bytes]) -> None:
        if not first:
            raise FailedRequestError(Outcome.RESET, "the server closed the connection")
        self.data = bytearray(first)
        self._more = more

    def grow(self) -> None:
        """Read what has come."""
        piece = self._more()
        if not piece:
            raise FailedRequestError(Outcome.RESET, "the server closed the connection midway")
        self.data += piece
        if len(self.data) > LARGEST_BODY + 2 * LARGEST_HEAD:
            raise malformed(f"more than {LARGEST_BODY} bytes")

    def at_least(self, size: int) -> None:
        """Read until ``size`` bytes are there."""
        while len(self.data) < size:
            self.grow()

    def until(self, mark: bytes, start: int) -> int:
        """Read until ``mark`` comes at or after ``start``; return its place."""
        searched = start
        while (place := self.data.find(mark, searched)) < 0:
            if len(self.data) - start > LARGEST_HEAD:
                raise malformed(f"no {mark!r} within {LARGEST_HEAD} bytes")
            searched = max(start, len(self.data) - len(mark) + 1)
            self.grow()
        return place

    def chunks(self, place: int) -> bytes:
        """Read a chunked body that begins at ``place`` (RFC 9112, section 7.1)."""
        parts: list[bytes] = []
        total = 0
        size = -1
        while size != 0:
            end = self.until(b"\r\n", place)
            text = bytes(self.data[place:end]).partition(b";")[0].strip()
            if HEX.fullmatch(text) is None:
                raise malformed(f"chunk size {text[:40]!r}")
            size, place = int(text, 16), end + 2
            total += size
            if total > LARGEST_BODY:
                raise malformed(f"more than {LARGEST_BODY} bytes in chunks")
            if size:
                self.at_least(place + size + 2)
                if self.data[place + size : place + size + 2] != b"\r\n":
                    raise malformed("a chunk is longer than its size")
                parts.append(bytes(self.data[place : place + size]))
                place += size + 2
        body_end = place
        while (end := self.until(b"\r\n", place)) != place:  # trailer fields
            place = end + 2
            if place - body_end > LARGEST_HEAD:
                raise malformed(f"trailers of more than {LARGEST_HEAD} bytes")
        if len(self.data) > end + 2:
            raise malformed("bytes after its end")
        return b"".join(parts)
