"""Which connections and which prepared requests a workload needs, by protocol and by sender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.load.answers import Checker
from harness.load.bodies import grpc_request, grpc_tensors, http_request, http_tensors
from harness.load.examples import draw
from harness.load.links.grpc_link import GrpcLink, parse_grpc
from harness.load.links.http_answer import parse_http
from harness.load.links.http_link import HttpLink
from harness.load.links.triton_link import (
    TritonGrpcLink,
    TritonHttpLink,
    parse_grpc_result,
    parse_http_result,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from harness.load.answers import Answer
    from harness.load.examples import Examples
    from harness.load.links.watchdog import Watchdog
    from harness.load.target import Target
    from harness.point import Workload

__all__ = ["Link", "Pool", "Sender", "connect", "prepare"]

Sender = Literal["raw", "tritonclient"]


class Link(Protocol):
    """One user's connection to the server."""

    @property
    def connections(self) -> int:
        """How often it was opened."""

    @property
    def is_open(self) -> bool:
        """Whether an exchange may begin."""

    def open(self, timeout_s: float) -> None:
        """Connect, unless it is connected; raises ``FailedRequestError``."""

    def close(self) -> None:
        """Close the connection, if there is one."""

    def drop_if_stale(self) -> None:
        """Close a connection that the server has closed while it was idle."""

    def exchange(self, request: Any, known: Container[Any], timeout_s: float) -> Any:  # noqa: ANN401 - the sender's own
        """Send a prepared request and return what came back, unparsed.

        Raises:
            FailedRequestError: nothing came back.
        """


@dataclass(frozen=True)
class Pool:
    """Different requests of one workload, prepared, and the checker of their answers.

    Attributes:
        size: of the requests' tensors in bytes.
    """

    requests: list[Any]
    checker: Checker
    size: int


def connect(target: Target, workload: Workload, sender: Sender, watchdog: Watchdog) -> Link:
    """A connection for one user, not yet open."""
    if workload.protocol == "http":
        if sender == "raw":
            return HttpLink(target.http, watchdog, target.access)
        return TritonHttpLink(target.http, target.model, target.access)
    address = target.grpc or ""  # a workload that the server does not offer has no pool
    if sender == "raw":
        return GrpcLink(address, watchdog, target.access)
    return TritonGrpcLink(address, target.model, target.access)


def prepare(
    target: Target, examples: Examples, workload: Workload, sender: Sender, seed: int
) -> Pool:
    """Prepare the requests of a workload; every sender gets the same ones in the same order.

    Raises:
        UsageError: the model takes no such batch.
    """
    cases = draw(examples, target, workload.batch_size, seed)
    requests: list[Any]
    parse: Callable[[Any], Answer]
    if sender == "raw" and workload.protocol == "http":
        requests, parse = [http_request(case, target) for case in cases], parse_http
    elif sender == "raw":
        requests, parse = [grpc_request(case, target) for case in cases], parse_grpc
    elif workload.protocol == "http":
        requests, parse = (
            [http_tensors(case, binary=target.binary) for case in cases],
            parse_http_result,
        )
    else:
        requests, parse = [grpc_tensors(case) for case in cases], parse_grpc_result
    size = sum(array.nbytes for case in cases for _, array in case.inputs)
    return Pool(requests, Checker([case.expectation for case in cases], parse), size)
