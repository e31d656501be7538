"""Sends prepared gRPC requests over HTTP/2: serialised once, and the answers parsed only where they are new.

gRPC's own library blocks a thread for each call, and takes four to five times the CPU time.
Source: "gRPC over HTTP2" (PROTOCOL-HTTP2.md of grpc/grpc); status codes of google/rpc/code.proto.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING
from urllib.parse import unquote

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from harness.access import OPEN, Access
from harness.load.answers import Answer, Output
from harness.load.links.connection import Connection
from harness.load.links.http2 import Call, Http2
from harness.load.links.http2_frames import header_block
from harness.load.links.http_answer import malformed
from harness.load.outcomes import FailedRequestError, answered_outcome, grpc_outcome, http_outcome
from harness.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from harness.load.links.watchdog import Watchdog

__all__ = ["GrpcLink", "parse_grpc"]

SERVICE = "/inference.GRPCInferenceService"
PREFIX = struct.Struct(">BL")  # whether it is compressed, and its length
NAMES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)
STATUS = {str(number): name for number, name in enumerate(NAMES)}
# What an answer means that is HTTP's alone, of a proxy for instance (http-grpc-status-mapping.md).
STATUS_OF_HTTP = {
    "400": "INTERNAL",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "404": "UNIMPLEMENTED",
    **dict.fromkeys(("429", "502", "503", "504"), "UNAVAILABLE"),
}
LONGEST_DETAILS = 500
STALE_S, READS = 1.0, 4  # to see what a server has said meanwhile


def parse_grpc(raw: bytes) -> Answer:
    """Turn a serialised ``inference.ModelInferResponse`` into an answer.

    Raises:
        FailedRequestError: it is none.
    """
    try:
        response = service_pb2.ModelInferResponse.FromString(raw)
    except DecodeError as error:
        reason = "status OK and no answer of a model"
        raise FailedRequestError(Outcome.WRONG_ANSWER, reason) from error
    tensors, contents = response.outputs, response.raw_output_contents
    if len(tensors) != len(contents):
        reason = f"status OK, {len(tensors)} outputs and the bytes of {len(contents)}"
        raise FailedRequestError(Outcome.WRONG_ANSWER, reason)
    outputs = (
        Output(tensor.name, tensor.datatype, tuple(tensor.shape), bytes(content))
        for tensor, content in zip(tensors, contents, strict=True)
    )
    return Answer(response.model_name, tuple(outputs))


class GrpcLink:
    """One user's connection.

    Args:
        address: ``host:port``.
        watchdog: ends what takes too long.
        access: what the server asks of those who come.
    """

    def __init__(self, address: str, watchdog: Watchdog, access: Access = OPEN) -> None:
        self._access = access
        context = access.tls_context() if access.grpc_tls else None
        if context is not None:
            context.set_alpn_protocols(["h2"])
        self._connection = Connection(address, watchdog, context)
        self._http2: Http2 | None = None
        self._live, self._infer = (
            header_block(
                [
                    (":method", "POST"),
                    (":scheme", "https" if context else "http"),
                    (":path", f"{SERVICE}/{method}"),
                    (":authority", address),
                    ("te", "trailers"),
                    ("content-type", "application/grpc"),
                    ("user-agent", "triton-harness"),
                    *access.header_values().items(),
                ]
            )
            for method in ("ServerLive", "ModelInfer")
        )

    @property
    def connections(self) -> int:
        """How often it was opened."""
        return self._connection.opened

    @property
    def is_open(self) -> bool:
        """Whether an exchange may begin."""
        return self._http2 is not None

    def open(self, timeout_s: float) -> None:
        """Connect, unless it is connected, and ask whether the server is live.

        Raises:
            FailedRequestError: nobody is there, or it speaks no gRPC.
        """
        if self._http2 is not None:
            return
        self._connection.open(timeout_s)
        try:
            self._unary(self._live, b"", timeout_s)
        except BaseException:
            self.close()
            raise
        if self._http2 is None:
            reason = "the server takes no more calls on a connection that was just opened (GOAWAY)"
            raise FailedRequestError(Outcome.RESET, reason)

    def close(self) -> None:
        """Close the connection; the next exchange needs :meth:`open` first."""
        self._http2 = None
        self._connection.close()

    def drop_if_stale(self) -> None:
        """Close a connection that the server has closed, or will use no longer, while it was idle."""
        if self._http2 is None:
            return
        self._connection.within(STALE_S)
        try:
            for _ in range(READS):
                data = self._connection.receive_now()
                if data is None:
                    break
                self._http2.heed(data)
                if not data or self._http2.is_last:
                    self.close()
                    return
        except (FailedRequestError, OSError):
            self.close()
        finally:
            self._connection.deadline_ns = 0

    def exchange(self, request: bytes, known: Container[bytes], timeout_s: float) -> bytes:  # noqa: ARG002 - as the other links
        """Send a serialised request and return the serialised response.

        Raises:
            FailedRequestError: there was none; the connection is closed unless the server refused orderly.
        """
        if self._http2 is None:
            raise FailedRequestError(Outcome.REFUSED, "not connected")
        return self._unary(self._infer, request, timeout_s)

    def _unary(self, block: bytes, message: bytes, timeout_s: float) -> bytes:
        connection = self._connection
        connection.within(timeout_s)
        failure: BaseException | None = None
        try:
            http2 = self._http2
            if http2 is None:
                http2 = self._http2 = Http2(connection)
            call = http2.call(block, PREFIX.pack(0, len(message)) + message)
            if http2.is_last or connection.is_over:
                self.close()
            return _message(call, self._access)
        except BaseException as error:
            # Also where the user was ended between request and response: the answer may still come.
            failure = connection.failure(error)
            if not isinstance(failure, _RefusedError):
                self.close()
            if failure is error:
                raise
            raise failure from error
        finally:
            connection.deadline_ns = 0
            failure = None  # it holds this frame, and no garbage is collected while load is sent


class _RefusedError(FailedRequestError):
    """The server answered, in order, that it will not: the next call may follow on the same connection."""


def _message(call: Call, access: Access) -> bytes:
    """The message of a response with the status OK."""
    if _said(call).get("grpc-status") != "0":
        raise _failed(call, access)
    body = call.body
    if len(body) < PREFIX.size or PREFIX.unpack_from(body) != (0, len(body) - PREFIX.size):
        raise malformed(f"status OK and no single message: {body[:40]!r}")
    return body[PREFIX.size :]


def _said(call: Call) -> Mapping[str, str]:
    """The headers with the status: a proxy that adds trailers of its own sends a refusal's before them."""
    return call.trailers if "grpc-status" in call.trailers else call.head


def _failed(call: Call, access: Access) -> FailedRequestError:
    said = _said(call)
    number = said.get("grpc-status")
    if number is not None:
        name = STATUS.get(number, "UNKNOWN")
        details = access.redacted(unquote(said.get("grpc-message", "")))
        outcome = answered_outcome(name, details)
    else:
        http = call.head.get(":status", "")
        name = STATUS_OF_HTTP.get(http, "UNKNOWN")
        details = f"HTTP status {http[:10]!r} and no status of gRPC"
        known = re.fullmatch("[45][0-9]{2}", http)
        outcome = http_outcome(int(http), "") if known else grpc_outcome(name, details)
    orderly = outcome in (Outcome.REJECTED, Outcome.HTTP_4XX, Outcome.HTTP_5XX)
    kind = _RefusedError if orderly else FailedRequestError
    return kind(outcome, f"gRPC {name}: {details[:LONGEST_DETAILS]}")
