"""Sends prepared HTTP/1.1 requests over a kept-alive connection, with as little work as possible."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.access import OPEN, Access
from harness.load.links.connection import Connection
from harness.load.links.http_answer import (
    HEAD_END,
    LARGEST_BODY,
    LARGEST_HEAD,
    malformed,
    parse_head,
)
from harness.load.outcomes import FailedRequestError
from harness.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from harness.load.links.http_answer import Head
    from harness.load.links.watchdog import Watchdog

__all__ = ["HttpLink"]

HEX = re.compile(rb"[0-9A-Fa-f]{1,8}")


class LastResponse(bytes):
    """A response after which the server closes the connection: never to be recognised at once."""


class HttpLink:
    """One user's connection.

    Args:
        address: ``host:port``.
        watchdog: ends what takes too long.
        access: what the server asks of those who come.
    """

    def __init__(self, address: str, watchdog: Watchdog, access: Access = OPEN) -> None:
        context = access.tls_context() if access.http_tls else None
        self._connection = Connection(address, watchdog, context)

    @property
    def connections(self) -> int:
        """How often it was opened."""
        return self._connection.opened

    @property
    def is_open(self) -> bool:
        """Whether an exchange may begin."""
        return self._connection.is_open

    def open(self, timeout_s: float) -> None:
        """Connect, unless it is connected.

        Raises:
            FailedRequestError: nobody is there.
        """
        self._connection.open(timeout_s)

    def close(self) -> None:
        """Close the connection; the next exchange needs :meth:`open` first."""
        self._connection.close()

    def drop_if_stale(self) -> None:
        """Close a connection that the server has closed while it was idle."""
        if self._connection.is_open and self._connection.receive_now() is not None:
            self._connection.close()

    def exchange(self, request: bytes, known: Container[bytes], timeout_s: float) -> bytes:
        """Send a request and return the whole response, freed of transfer codings.

        Args:
            request: from its first byte to its last.
            known: whole responses that are likely; one of them is recognised at once.
            timeout_s: for all of it.

        Raises:
            FailedRequestError: there was none; the connection is closed then.
        """
        connection = self._connection
        connection.within(timeout_s)
        failure: BaseException | None = None
        try:
            connection.send(request)
            data = connection.receive()
            if data not in known:
                data = self._receive_rest(data)
            if connection.is_over:
                connection.close()
        except BaseException as error:
            # Also where the user was ended between request and response: the answer may still come.
            connection.close()
            failure = connection.failure(error)
            if failure is error:
                raise
            raise failure from error
        finally:
            connection.deadline_ns = 0
            failure = None  # it holds this frame, and no garbage is collected while load is sent
        return data

    def _receive_rest(self, first: bytes) -> bytes:
        """Read what is missing of a response that begins with ``first``."""
        response = _Response(first, self._connection.receive)
        head, start = response.head()
        while head.status < 200:
            # An interim response: the one that is meant follows (RFC 9110, section 15.2).
            del response.data[:start]
            head, start = response.head()
        if head.chunked:
            whole = bytes(response.data[:start]) + response.chunks(start)
        elif head.length is None:
            whole = response.to_end()
            if self._connection.is_over:  # so it did not end by itself
                raise FailedRequestError(Outcome.TIMEOUT, "no answer in time")
        else:
            response.at_least(start + head.length)
            if len(response.data) > start + head.length:
                raise malformed("bytes after its end")
            whole = bytes(response.data)
        if head.close:
            self.close()
            return LastResponse(whole)
        return whole


class _Response:
    """A response that is read piece by piece, within bounds."""

    def __init__(self, first: bytes, more: Callable[[], bytes]) -> None:
        if not first:
            raise FailedRequestError(Outcome.RESET, "the server closed the connection")
        self.data = bytearray(first)
        self._more = more

    def grow(self) -> None:
        """Read what has come."""
        if not self._more_came():
            raise FailedRequestError(Outcome.RESET, "the server closed the connection midway")

    def _more_came(self) -> bool:
        piece = self._more()
        self.data += piece
        if len(self.data) > LARGEST_BODY + 2 * LARGEST_HEAD:
            raise malformed(f"more than {LARGEST_BODY} bytes")
        return bool(piece)

    def head(self) -> tuple[Head, int]:
        """Read a head; return it, and where the body begins."""
        end = self.until(HEAD_END, 0)
        return parse_head(bytes(self.data[:end])), end + len(HEAD_END)

    def to_end(self) -> bytes:
        """Read until the server closes the connection (RFC 9112, section 6.3)."""
        while self._more_came():
            pass
        return bytes(self.data)

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
