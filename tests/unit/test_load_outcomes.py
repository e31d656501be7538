from __future__ import annotations

import errno
import os

import pytest

from harness.load.outcomes import grpc_outcome, http_outcome, socket_outcome
from harness.records import Outcome

# Details as gRPC 1.7x and a real Triton 2.51 worded them.
REFUSED = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to "
    "remote host: connect: Connection refused (111)"
)


@pytest.mark.parametrize(
    ("code", "details", "outcome"),
    [
        ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size", Outcome.REJECTED),
        ("UNAVAILABLE", "[request id: 1] Request timeout expired", Outcome.REJECTED),
        ("UNAVAILABLE", REFUSED, Outcome.REFUSED),
        ("UNAVAILABLE", "Socket closed", Outcome.RESET),
        ("UNAVAILABLE", "recvmsg:Connection reset by peer", Outcome.RESET),
        ("UNAVAILABLE", "Request for unknown model: 'm' is not ready", Outcome.HTTP_5XX),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Outcome.TIMEOUT),
        ("NOT_FOUND", "Request for unknown model: 'm' is not found", Outcome.HTTP_4XX),
        ("INVALID_ARGUMENT", "unexpected inference input 'IN' for model 'cnn'", Outcome.HTTP_4XX),
        ("INTERNAL", "Stub process 'm_0_0' is not healthy.", Outcome.HTTP_5XX),
        ("UNIMPLEMENTED", "ModelInfer RPC doesn't support decoupled", Outcome.HTTP_5XX),
        ("CANCELLED", "Channel closed!", Outcome.OTHER),
    ],
)
def test_grpc(code: str, details: str, outcome: Outcome) -> None:
    assert grpc_outcome(code, details) is outcome


@pytest.mark.parametrize(
    ("status", "text", "outcome"),
    [
        (503, '{"error":"Exceeds maximum queue size"}', Outcome.REJECTED),
        (503, '{"error":"Request timeout expired"}', Outcome.REJECTED),
        (503, "no healthy upstream", Outcome.HTTP_5XX),
        (500, "Exceeds maximum queue size", Outcome.HTTP_5XX),
        (400, "", Outcome.HTTP_4XX),
        (429, "", Outcome.HTTP_4XX),
        (204, "", Outcome.OTHER),
    ],
)
def test_http(status: int, text: str, outcome: Outcome) -> None:
    assert http_outcome(status, text) is outcome


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (errno.ECONNREFUSED, Outcome.REFUSED),
        (errno.ECONNRESET, Outcome.RESET),
        (errno.EPIPE, Outcome.RESET),
        (errno.ETIMEDOUT, Outcome.TIMEOUT),
        (errno.ENETUNREACH, Outcome.REFUSED),
        (errno.EMFILE, Outcome.OTHER),
    ],
)
def test_sockets(code: int, outcome: Outcome) -> None:
    assert socket_outcome(OSError(code, os.strerror(code))) is outcome
