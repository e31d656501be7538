"""A connection to a server's control plane over gRPC: each call with a deadline, its error as a sentence.

What only reads is tried again when the connection broke; what changes something is sent once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

from harness.errors import EnvironmentFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.servers.server import Endpoints

__all__ = ["CALL_DEADLINE_S", "Connection", "ConnectionBrokenError"]

CALL_DEADLINE_S = 10.0
PAUSE_S = 0.1
LARGEST_ANSWER_BYTES = 16 << 20
LONGEST_MESSAGE = 4000
# Broken connections. A deadline is not among them: whoever set it does not want to wait again.
AGAIN = ("UNAVAILABLE",)
BROKEN = ("Stream removed", "Socket closed")  # with a status that says nothing

AnswerT = TypeVar("AnswerT")


class ConnectionBrokenError(EnvironmentFailedError):
    """The connection to the server broke, or there is nobody."""


class NoAnswerError(EnvironmentFailedError):
    """The server did not answer a call in time."""


class Connection:
    """A connection to a server's control plane. Use it as a context manager.

    Attributes:
        address: where the server listens.
        client: Triton's own client.

    Args:
        endpoints: where the server listens.
        deadline_s: of every call that has none of its own.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> None:
        import tritonclient.grpc as triton

        if endpoints.grpc is None:
            raise UsageError("the control plane is gRPC, and the server offers none")
        self.address = endpoints.grpc
        self.deadline_s = deadline_s
        self._access = endpoints.access
        self._headers = self._access.header_values() or None
        credentials = None
        if self._access.grpc_tls:
            import grpc

            credentials = grpc.ssl_channel_credentials(*self._access.certificates())
        self.client = triton.InferenceServerClient(
            endpoints.grpc,
            ssl=credentials is not None,
            creds=credentials,
            channel_args=[
                ("grpc.max_receive_message_length", LARGEST_ANSWER_BYTES),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def read(
        self,
        what: str,
        function: Callable[..., AnswerT],
        *arguments: Any,  # noqa: ANN401 - the client's own
        deadline_s: float | None = None,
        **options: Any,  # noqa: ANN401 - the client's own
    ) -> AnswerT:
        """Call what may be called twice: again where the connection broke, within one deadline.

        Raises:
            EnvironmentFailedError: the server refuses, or does not answer in time.
        """
        deadline = time.monotonic() + (deadline_s or self.deadline_s)
        while True:
            left_s = deadline - time.monotonic()
            try:
                return self.call(
                    what, function, *arguments, deadline_s=max(left_s, 0.001), **options
                )
            except ConnectionBrokenError:
                if deadline - time.monotonic() < PAUSE_S:
                    raise
                time.sleep(PAUSE_S)

    def call(
        self,
        what: str,
        function: Callable[..., AnswerT],
        *arguments: Any,  # noqa: ANN401 - the client's own
        deadline_s: float,
        **options: Any,  # noqa: ANN401 - the client's own
    ) -> AnswerT:
        """Call once; turn the client's error into a sentence.

        Raises:
            EnvironmentFailedError: the server refuses, or does not answer in time.
        """
        from tritonclient.utils import InferenceServerException

        try:
            return function(*arguments, client_timeout=deadline_s, headers=self._headers, **options)
        except InferenceServerException as error:
            raise self._sentence(what, deadline_s, error) from error

    def _sentence(self, what: str, deadline_s: float, error: Any) -> EnvironmentFailedError:  # noqa: ANN401
        status = str(error.status() or "")
        if "DEADLINE_EXCEEDED" in status:
            return NoAnswerError(f"{what}: no answer within {deadline_s:.3g} s", where=self.address)
        message = self._access.redacted(str(error.message()))  # before it is cut
        message = " ".join(message[:LONGEST_MESSAGE].split()).rstrip(";. ")
        broken = any(a in status for a in AGAIN) or any(words in message for words in BROKEN)
        kind = ConnectionBrokenError if broken else EnvironmentFailedError
        return kind(f"{what}: {message}", where=self.address)
