"""A gRPC server that is not Triton: it answers every inference in one way, over real sockets."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import grpc
from tritonclient.grpc import service_pb2

from tests.relay import Relay, relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Call", "GrpcServer", "answer", "grpc_server"]

SERVICE = "inference.GRPCInferenceService"
THREADS = 32


class Call:
    """One inference that a client waits for.

    Attributes:
        x: the bytes of its first input.
    """

    def __init__(self, request: bytes, context: grpc.ServicerContext, relay: Relay) -> None:
        self.x = service_pb2.ModelInferRequest.FromString(request).raw_input_contents[0]
        self._context = context
        self._relay = relay

    def refuse(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Answer with a status."""
        self._context.abort(code, details)
        raise AssertionError("abort raises")

    def keep_silent(self) -> bytes:
        """Give no answer until the client has given up."""
        ended = threading.Event()
        if self._context.add_callback(ended.set):
            ended.wait()
        return b""

    def hang_up(self, *, reset: bool) -> bytes:
        """Break the connection instead of answering."""
        self._relay.cut("grpc", int(self._context.peer().rpartition(":")[2]), reset=reset)
        return self.keep_silent()


def answer(y: bytes, *, shape: tuple[int, ...] = (1, 1), model: str = "m") -> bytes:
    """A serialised response with one tensor Y."""
    response = service_pb2.ModelInferResponse(model_name=model, raw_output_contents=[y])
    response.outputs.add(name="Y", datatype="FP32", shape=shape)
    return bytes(response.SerializeToString())


class GrpcServer:
    """What is behind an address: ``behaviour`` may be changed at any time."""

    def __init__(self, behaviour: Callable[[Call], bytes]) -> None:
        self.behaviour = behaviour
        self.address = ""
        self.relay: Relay

    def live(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        """Say yes."""
        return bytes(service_pb2.ServerLiveResponse(live=True).SerializeToString())

    def infer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Behave."""
        return self.behaviour(Call(request, context, self.relay))


@contextmanager
def grpc_server(behaviour: Callable[[Call], bytes]) -> Iterator[GrpcServer]:
    """Run one on loopback."""
    made = GrpcServer(behaviour)
    methods = {"ServerLive": made.live, "ModelInfer": made.infer}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()
    }
    with ThreadPoolExecutor(THREADS) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        with relay({"grpc": port}) as made.relay:
            made.address = f"127.0.0.1:{made.relay.ports['grpc']}"
            server.start()
            try:
                yield made
            finally:
                server.stop(None).wait()
