"""gRPC's own library under gevent: only ``tritonclient.grpc`` needs it, and only for load."""

from __future__ import annotations

import gevent
import grpc.experimental.gevent

from harness.load.links.http_answer import LARGEST_BODY

__all__ = ["CHANNEL_OPTIONS", "prepare_grpc"]

# One thread a call in flight; a thread is only made when it is needed.
LARGEST_POOL = 4096
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # otherwise all users share one connection
    ("grpc.enable_retries", 0),  # a request that is sent twice is not a sample
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", LARGEST_BODY),
)


def prepare_grpc() -> None:
    """Let gRPC wait in gevent's threads, enough of them; once, before the first channel is made.

    gRPC's core blocks the thread that waits for it. With gevent's own 10 threads, 12 slow calls in flight turn
    a call of 20 ms into one of a second, silently.
    """
    hub = gevent.get_hub()
    hub.threadpool_size = LARGEST_POOL
    hub.threadpool.maxsize = LARGEST_POOL
    grpc.experimental.gevent.init_gevent()
