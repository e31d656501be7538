"""Sends prepared gRPC requests: serialised once, and the answers parsed only where they are new.

gRPC's core blocks the thread that waits for it. :func:`prepare_grpc` hands that waiting to gevent's
thread pool, and makes the pool large enough: with gevent's own 10 threads, 12 slow calls in flight turn
a call of 20 ms into one of a second, silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
import grpc
import grpc.experimental.gevent
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from harness.access import OPEN, Access
from harness.load.answers import Answer, Output
from harness.load.http_answer import LARGEST_BODY
from harness.load.outcomes import FailedRequestError, grpc_outcome
from harness.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Container

__all__ = ["CHANNEL_OPTIONS", "GrpcLink", "parse_grpc", "prepare_grpc"]

SERVICE = "/inference.GRPCInferenceService"
# One thread a call in flight; a thread is only made when it is needed.
LARGEST_POOL = 4096
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # otherwise all users share one connection
    ("grpc.enable_retries", 0),  # a request that is sent twice is not a sample
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", LARGEST_BODY),
)


def prepare_grpc() -> None:
    """Let gRPC wait in gevent's threads, enough of them; once, before the first channel is made."""
    hub = gevent.get_hub()
    hub.threadpool_size = LARGEST_POOL
    hub.threadpool.maxsize = LARGEST_POOL
    grpc.experimental.gevent.init_gevent()


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
    """One user's channel, with a connection of its own.

    Args:
        address: ``host:port``.
        access: what the server asks of those who come.

    Attributes:
        connections: how often it was opened.
    """

    def __init__(self, address: str, access: Access = OPEN) -> None:
        self._address = address
        self._access = access
        self._metadata = tuple(access.header_values().items())
        self._channel: grpc.Channel | None = None
        self._infer: Callable[..., bytes]
        self.connections = 0

    @property
    def is_open(self) -> bool:
        """Whether an exchange may begin."""
        return self._channel is not None

    def open(self, timeout_s: float) -> None:
        """Connect, unless there is a channel.

        Raises:
            FailedRequestError: nobody is there.
        """
        if self._channel is not None:
            return
        if self._access.grpc_tls:
            credentials = grpc.ssl_channel_credentials(*self._access.certificates())
            channel = grpc.secure_channel(self._address, credentials, options=CHANNEL_OPTIONS)
        else:
            channel = grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS)
        self._channel = channel
        self.connections += 1
        # Without (de)serialisers, bytes go in and come out.
        self._infer = channel.unary_unary(f"{SERVICE}/ModelInfer")
        try:
            live = channel.unary_unary(f"{SERVICE}/ServerLive")
            live(b"", timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            self.close()
            raise _failed(error) from error

    def close(self) -> None:
        """Close the channel; the next exchange needs :meth:`open` first."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def drop_if_stale(self) -> None:
        """Nothing to do: the channel notices a closed connection by itself."""

    def exchange(self, request: bytes, known: Container[bytes], timeout_s: float) -> bytes:  # noqa: ARG002 - as the other links
        """Send a serialised request and return the serialised response.

        Raises:
            FailedRequestError: there was none; the channel is closed unless the server refused orderly.
        """
        if self._channel is None:
            raise FailedRequestError(Outcome.REFUSED, "not connected")
        try:
            return self._infer(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            failed = _failed(error)
            if failed.outcome in (Outcome.REFUSED, Outcome.RESET, Outcome.TIMEOUT, Outcome.OTHER):
                self.close()
            raise failed from error
        except BaseException:
            self.close()
            raise


def _failed(error: Any) -> FailedRequestError:  # noqa: ANN401 - RpcError has no code() for a type checker
    code, details = error.code(), error.details() or ""
    return FailedRequestError(
        grpc_outcome(code.name, details), f"gRPC {code.name}: {details[:500]}"
    )
