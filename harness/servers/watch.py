"""A server is looked at all the time, and one that has failed is ended, so that nobody waits for it.

Whoever waits for a frozen server waits for a time-out: a level that changes, a load that drains, a model
that loads. Once its process is gone every connection to it breaks, and the wait is over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Self

from harness.records import LOG_ENDS
from harness.servers.health import FROZEN_S, Health
from harness.servers.triton import last_lines

if TYPE_CHECKING:
    from harness.servers.server import Server

__all__ = ["Watch"]

INTERVAL_S = 0.2
CLOSE_S = FROZEN_S + 2  # a look may be under way


class Watch:
    """A thread that asks :class:`~harness.servers.health.Health` of one server. A context manager.

    Args:
        server: the server to watch.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._health = Health(server)
        self._failure: str | None = None
        self._noticed_ns: int | None = None
        self._closed = threading.Event()
        self._looks = 0
        self._wake = threading.Event()
        self._looked = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching; what happens to the server from now on is meant."""
        self._closed.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def failure(self) -> str | None:
        """What broke the server first, one sentence; ``None`` while it serves. Never waits."""
        return self._failure

    @property
    def noticed_ns(self) -> int | None:
        """When that was noticed (CLOCK_MONOTONIC, ns); ``None`` while it serves."""
        return self._noticed_ns

    def confirmed(self) -> str | None:
        """As :meth:`failure`, after one more look: call it when something has just gone wrong."""
        with self._looked:
            target = self._looks + 2  # a look may be under way that began too early
            self._wake.set()
            self._looked.wait_for(
                lambda: self._looks >= target or self._failure is not None, 2 * FROZEN_S
            )
        return self._failure

    def release(self) -> None:
        """Let stubs go: a model is about to be loaded anew or unloaded."""
        self._health.release()

    def settle(self, model: str | None = None, *, instances: int | None = None) -> None:
        """Take the stubs that are there now for those that must stay; see :meth:`Health.settle`."""
        self._health.settle(model, instances=instances)

    def silences(self, since_ns: int) -> list[float]:
        """How long the server was silent and then answered again, in seconds, from that moment on."""
        return [seconds for end_ns, seconds in self._health.silences if end_ns >= since_ns]

    def _run(self) -> None:
        while not self._closed.is_set() and self._failure is None:
            self._wake.wait(INTERVAL_S)
            self._wake.clear()
            failure = self._with_log(self._health.failure())
            if self._closed.is_set():
                return
            with self._looked:
                self._noticed_ns = time.monotonic_ns() if failure else None
                self._failure = failure
                self._looks += 1
                self._looked.notify_all()
        self._end_server()

    def _with_log(self, failure: str | None) -> str | None:
        """The same with the log's last lines, where there is a log and they are not in it already."""
        log = self._server.log
        if failure is None or log is None or LOG_ENDS in failure:
            return failure
        return f"{failure}; {LOG_ENDS}\n{last_lines(log)}"

    def _end_server(self) -> None:
        if self._failure is None:
            return
        for role, pid in self._server.processes():
            if role == "server":
                # In a container it may be another user's; then those who wait run into their time-outs.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
