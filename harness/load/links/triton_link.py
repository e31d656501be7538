"""Sends with ``tritonclient``'s own clients: what most people measure with, and what ours is held to.

The HTTP client sends a request again by itself when a kept-alive connection turns out to be closed, so
it reports fewer resets than there were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.http
from geventhttpclient.response import HTTPConnectionClosed, HTTPProtocolViolationError
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from harness.access import OPEN, Access
from harness.load.answers import Answer, Output
from harness.load.links.grpc_threads import CHANNEL_OPTIONS
from harness.load.outcomes import (
    FailedRequestError,
    grpc_outcome,
    http_outcome,
    socket_outcome,
)
from harness.records import Outcome

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Container

    import numpy.typing as npt

__all__ = ["TritonGrpcLink", "TritonHttpLink", "parse_grpc_result", "parse_http_result"]

Tensors = tuple[list[Any], list[Any]]
KEPT = (Outcome.REJECTED, Outcome.HTTP_4XX, Outcome.HTTP_5XX)


def _tensor_bytes(array: npt.NDArray[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        serialised = serialize_byte_tensor(array)
        return bytes(serialised.item()) if serialised.size else b""
    if datatype == "BF16":
        return (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return array.tobytes()


def _output(result: Any, name: str, datatype: str, shape: tuple[int, ...]) -> Output:  # noqa: ANN401 - either InferResult
    try:
        array = result.as_numpy(name)
    except (ValueError, TypeError, InferenceServerException) as error:
        reason = f"output {name}: tritonclient cannot read it ({error})"
        raise FailedRequestError(Outcome.WRONG_ANSWER, reason) from error
    data = b"" if array is None else _tensor_bytes(array, datatype)
    return Output(name, datatype, shape, data)


def parse_http_result(result: Any) -> Answer:  # noqa: ANN401 - tritonclient has no types
    """Turn a ``tritonclient.http.InferResult`` into an answer.

    Raises:
        FailedRequestError: it is not the answer of a model.
    """
    try:
        response = result.get_response()
        outputs = [
            _output(result, o["name"], o["datatype"], tuple(o["shape"]))
            for o in response["outputs"]
        ]
        return Answer(str(response["model_name"]), tuple(outputs))
    except (KeyError, TypeError) as error:
        reason = f"status 200 and no answer of a model ({error})"
        raise FailedRequestError(Outcome.WRONG_ANSWER, reason) from error


def parse_grpc_result(result: Any) -> Answer:  # noqa: ANN401 - tritonclient has no types
    """Turn a ``tritonclient.grpc.InferResult`` into an answer.

    Raises:
        FailedRequestError: it is not the answer of a model.
    """
    response = result.get_response()
    outputs = [_output(result, o.name, o.datatype, tuple(o.shape)) for o in response.outputs]
    return Answer(response.model_name, tuple(outputs))


class TritonHttpLink:
    """One user's ``tritonclient.http`` client, with one connection.

    Args:
        address: ``host:port``.
        model: name of the model.
        access: what the server asks of those who come.

    Attributes:
        connections: how often it was opened.
    """

    def __init__(self, address: str, model: str, access: Access = OPEN) -> None:
        self._address = address
        self._access = access
        self._headers = access.header_values()
        self._model = model
        self._client: tritonclient.http.InferenceServerClient | None = None
        self._timeout_s = 0.0
        self.connections = 0

    @property
    def is_open(self) -> bool:
        """Whether an exchange may begin."""
        return self._client is not None

    def open(self, timeout_s: float) -> None:
        """Connect, unless it is connected.

        Raises:
            FailedRequestError: nobody is there.
        """
        if self._client is not None:
            return
        self._timeout_s = timeout_s
        self._client = tritonclient.http.InferenceServerClient(
            self._address,
            connection_timeout=timeout_s,
            network_timeout=timeout_s,
            ssl=self._access.http_tls,
            ssl_context_factory=_context_of(self._access) if self._access.http_tls else None,
        )
        self.connections += 1
        try:
            self._client.is_server_live(headers=dict(self._headers))
        except Exception as error:
            self.close()
            raise _http_failed(error) from error

    def close(self) -> None:
        """Close the connection; the next exchange needs :meth:`open` first."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _closed_by(self, failed: FailedRequestError) -> FailedRequestError:
        """Close the connection unless the server refused orderly.

        The error is kept in no variable of a frame that it holds itself: no garbage is collected while
        load is sent.
        """
        if failed.outcome not in KEPT:
            self.close()
        return failed

    def drop_if_stale(self) -> None:
        """Nothing to do: the client notices a closed connection by itself."""

    def exchange(self, request: Tensors, known: Container[bytes], timeout_s: float) -> Any:  # noqa: ANN401, ARG002 - as the other links
        """Send inputs, ask for outputs, and return the client's result.

        Raises:
            FailedRequestError: there was none.
        """
        if timeout_s != self._timeout_s:  # the client takes it only when it is made
            self.close()
            self.open(timeout_s)
        client = self._client
        if client is None:
            raise FailedRequestError(Outcome.REFUSED, "not connected")
        try:
            return client.infer(
                self._model, request[0], outputs=request[1], headers=dict(self._headers)
            )
        except Exception as error:
            raise self._closed_by(_http_failed(error)) from error
        except BaseException:
            self.close()
            raise


def _context_of(access: Access) -> Callable[..., ssl.SSLContext]:
    """What geventhttpclient makes its context with; it names certificates to trust of its own."""
    return lambda **_: access.tls_context()


def _http_failed(error: Exception) -> FailedRequestError:
    if isinstance(error, InferenceServerException):
        status = error.status() or ""
        text = str(error.message())
        if status.isdigit():
            return FailedRequestError(http_outcome(int(status), text), f"HTTP {status}: {text}")
    if isinstance(error, OSError):
        return FailedRequestError(socket_outcome(error), str(error))
    if isinstance(error, HTTPConnectionClosed):
        return FailedRequestError(Outcome.RESET, str(error))
    if isinstance(error, HTTPProtocolViolationError):
        return FailedRequestError(Outcome.OTHER, f"malformed response: {error}")
    reason = f"status 200 and no answer of a model ({type(error).__name__}: {error})"
    return FailedRequestError(Outcome.WRONG_ANSWER, reason)


class TritonGrpcLink:
    """One user's ``tritonclient.grpc`` client, with a connection of its own.

    Args:
        address: ``host:port``.
        model: name of the model.
        access: what the server asks of those who come.

    Attributes:
        connections: how often it was opened.
    """

    def __init__(self, address: str, model: str, access: Access = OPEN) -> None:
        self._address = address
        self._access = access
        self._headers = access.header_values()
        self._model = model
        self._client: tritonclient.grpc.InferenceServerClient | None = None
        self.connections = 0

    @property
    def is_open(self) -> bool:
        """Whether an exchange may begin."""
        return self._client is not None

    def open(self, timeout_s: float) -> None:
        """Connect, unless there is a channel.

        Raises:
            FailedRequestError: nobody is there.
        """
        if self._client is not None:
            return
        credentials = None
        if self._access.grpc_tls:
            credentials = grpc.ssl_channel_credentials(*self._access.certificates())
        self._client = tritonclient.grpc.InferenceServerClient(
            self._address,
            ssl=credentials is not None,
            creds=credentials,
            channel_args=list(CHANNEL_OPTIONS),
        )
        self.connections += 1
        try:
            self._client.is_server_live(client_timeout=timeout_s, headers=self._headers)
        except InferenceServerException as error:
            self.close()
            raise _grpc_failed(error) from error

    def close(self) -> None:
        """Close the channel; the next exchange needs :meth:`open` first."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _closed_by(self, failed: FailedRequestError) -> FailedRequestError:
        """Close the connection unless the server refused orderly.

        The error is kept in no variable of a frame that it holds itself: no garbage is collected while
        load is sent.
        """
        if failed.outcome not in KEPT:
            self.close()
        return failed

    def drop_if_stale(self) -> None:
        """Nothing to do: the channel notices a closed connection by itself."""

    def exchange(self, request: Tensors, known: Container[bytes], timeout_s: float) -> Any:  # noqa: ANN401, ARG002 - as the other links
        """Send inputs, ask for outputs, and return the client's result.

        Raises:
            FailedRequestError: there was none.
        """
        client = self._client
        if client is None:
            raise FailedRequestError(Outcome.REFUSED, "not connected")
        try:
            return client.infer(
                self._model,
                request[0],
                outputs=request[1],
                client_timeout=timeout_s,
                headers=self._headers,
            )
        except InferenceServerException as error:
            raise self._closed_by(_grpc_failed(error)) from error
        except BaseException:
            self.close()
            raise


def _grpc_failed(error: InferenceServerException) -> FailedRequestError:
    code = str(error.status()).removeprefix("StatusCode.")
    details = str(error.message())
    return FailedRequestError(grpc_outcome(code, details), f"gRPC {code}: {details[:500]}")
