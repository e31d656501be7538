"""What is seen of a running container from outside: its log, followed into a file, and its events."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from docker import DockerClient

__all__ = ["ContainerWatch"]

WATCHED = ("kill", "die", "oom", "destroy")
LARGEST_LOG_BYTES = 256 << 20  # more is read and dropped: a server must not fill the disk
PATIENCE_S = 2.0


class ContainerWatch:
    """Two threads that end with the container, or with :meth:`close`.

    Attributes:
        out_of_memory: the kernel has ended a process in it because it reached its limit.
        ended: set when its main process has ended, or it was removed.
        killed: somebody had the engine send its main process a signal: to stop it, restart it or remove it.

    Args:
        client: the engine.
        container_id: the container, started or not.
        log: the file that its output is appended to.
    """

    def __init__(self, client: DockerClient, container_id: str, log: Path) -> None:
        self.out_of_memory = threading.Event()
        self.ended = threading.Event()
        self.killed = threading.Event()
        self._client = client
        self._id = container_id
        self._log = log
        self._streams: list[Any] = []
        self._follower = threading.Thread(target=self._follow, name="container log", daemon=True)
        self._listener = threading.Thread(target=self._listen, name="container events", daemon=True)
        self._since = int(time.time()) - 1
        self._listener.start()

    @property
    def listening(self) -> bool:
        """Whether events still arrive."""
        return self._listener.is_alive()

    def follow_log(self) -> None:
        """Begin to copy the log; the container has been started."""
        self._follower.start()

    def log_whole(self) -> None:
        """Wait a little until the log of an ended container is in the file."""
        if self._follower.ident is not None:
            self._follower.join(PATIENCE_S)

    def close(self) -> None:
        """End both threads."""
        for stream in self._streams:
            with contextlib.suppress(Exception):  # the SDK closes a socket that may have gone
                stream.close()
        for thread in (self._listener, self._follower):
            if thread.ident is not None:
                thread.join(PATIENCE_S)
        for stream in self._streams:
            with contextlib.suppress(Exception):
                stream._response.close()  # noqa: SLF001 - its own close() leaves the connection open

    def _follow(self) -> None:
        from docker.errors import DockerException
        from urllib3.exceptions import HTTPError

        written = 0
        try:
            with self._log.open("ab", buffering=0) as file:
                stream = self._client.api.logs(self._id, stream=True, follow=True)
                self._streams.append(stream)
                for chunk in stream:
                    if written < LARGEST_LOG_BYTES:
                        written += file.write(chunk)
        except (DockerException, HTTPError, OSError, ValueError):
            return  # the engine or the disk has gone; the server's own failure says more

    def _listen(self) -> None:
        from docker.errors import DockerException
        from urllib3.exceptions import HTTPError

        filters = {"container": self._id, "event": list(WATCHED)}
        try:
            stream = self._client.api.events(since=self._since, filters=filters, decode=True)
            self._streams.append(stream)
            for event in stream:
                action = event.get("Action") or event.get("status")
                if action == "oom":
                    self.out_of_memory.set()
                elif action == "kill":
                    self.killed.set()
                elif action in {"die", "died", "destroy", "remove"}:
                    self.ended.set()
                if action in {"destroy", "remove"}:
                    return
        except (DockerException, HTTPError, OSError, ValueError):
            return
