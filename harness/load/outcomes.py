"""What became of a request that got no answer of a model: from status codes and errors to an outcome."""

from __future__ import annotations

import errno

from harness.records import Outcome

__all__ = [
    "LONGEST_REASON",
    "FailedRequestError",
    "answered_outcome",
    "grpc_outcome",
    "http_outcome",
    "socket_outcome",
]

# A server may say what it likes in it: so much is shown, once secrets have been found in it.
LONGEST_REASON = 600

# What Triton's queue policy says, with HTTP 503 and gRPC UNAVAILABLE: max_queue_size, and
# default_timeout_microseconds with the action REJECT (src/dynamic_batch_scheduler.cc).
QUEUE_POLICY_TEXTS = ("Exceeds maximum queue size", "Request timeout expired")

# gRPC's own words for a connection that could not be made, in the details of UNAVAILABLE.
CONNECT_TEXTS = ("failed to connect", "connection refused", "no route to host", "connect failed")
BROKEN_TEXTS = (
    *("socket closed", "connection reset", "broken pipe", "goaway", "stream removed"),
    *("recvmsg", "sendmsg", "end of tcp", "transport closed", "endpoint closing"),
)

# The rest of the codes that say that the client is at fault, as HTTP's 4xx does
# (google/rpc/code.proto gives the mapping).
CLIENT_FAULTS = frozenset(
    {
        *("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"),
        *("RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "OUT_OF_RANGE", "UNAUTHENTICATED"),
    }
)
SERVER_FAULTS = frozenset({"INTERNAL", "UNKNOWN", "UNIMPLEMENTED", "ABORTED", "DATA_LOSS"})


class FailedRequestError(Exception):
    """A request that got no answer of a model.

    Args:
        outcome: what became of it.
        reason: the same in words, for the log.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


def http_outcome(status: int, text: str) -> Outcome:
    """The outcome of an HTTP status other than 200, given the body's text."""
    if status == 503 and any(part in text for part in QUEUE_POLICY_TEXTS):
        return Outcome.REJECTED
    if 400 <= status < 500:
        return Outcome.HTTP_4XX
    if 500 <= status < 600:
        return Outcome.HTTP_5XX
    return Outcome.OTHER


def grpc_outcome(code: str, details: str) -> Outcome:
    """The outcome of a gRPC status other than ``OK``, given the code's name and its details."""
    if code == "UNAVAILABLE":
        return _unavailable(details)
    if code == "DEADLINE_EXCEEDED":
        return Outcome.TIMEOUT
    if code in CLIENT_FAULTS:
        return Outcome.HTTP_4XX
    return Outcome.HTTP_5XX if code in SERVER_FAULTS else Outcome.OTHER


def answered_outcome(code: str, details: str) -> Outcome:
    """As :func:`grpc_outcome`, where the far end said it: its words are not of our own connection."""
    if code != "UNAVAILABLE":
        return grpc_outcome(code, details)
    rejected = any(part in details for part in QUEUE_POLICY_TEXTS)
    return Outcome.REJECTED if rejected else Outcome.HTTP_5XX


def _unavailable(details: str) -> Outcome:
    """``UNAVAILABLE`` has many causes, and only the details tell them apart."""
    if any(part in details for part in QUEUE_POLICY_TEXTS):
        return Outcome.REJECTED
    lowered = details.lower()
    if any(part in lowered for part in CONNECT_TEXTS):
        return Outcome.REFUSED
    return Outcome.RESET if any(part in lowered for part in BROKEN_TEXTS) else Outcome.HTTP_5XX


def socket_outcome(error: OSError) -> Outcome:
    """The outcome of an error of a socket."""
    if isinstance(error, TimeoutError):
        return Outcome.TIMEOUT
    if isinstance(error, ConnectionRefusedError):
        return Outcome.REFUSED
    if isinstance(error, ConnectionError):
        return Outcome.RESET
    unreachable = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL}
    return Outcome.REFUSED if error.errno in unreachable else Outcome.OTHER
