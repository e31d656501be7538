"""Drives the Locust process from the command's own process, in which nothing is patched."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self, cast

import numpy as np

import harness
from harness import processes
from harness.errors import EnvironmentFailedError
from harness.load.health import health, most_in_flight
from harness.load.messages import error_from, receive, send
from harness.load.target import Target
from harness.records import SAMPLE_DTYPE

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.point import Load, Workload
    from harness.records import GeneratorHealth

__all__ = ["Driver", "LoadGeneratorDiedError", "Target"]

LOG_NAME = "load.log"
LATENCIES = 20_000
# How long an answer may take beyond what was asked for; a process that is silent longer is stuck.
ANSWER_S = 30.0
CLOSE_S = 1.5


class LoadGeneratorDiedError(EnvironmentFailedError):
    """The Locust process ended, or no longer answers."""


class Driver:
    """The Locust process of a run, started with the ``with`` block and ended with it.

    Args:
        target: where the load goes.
        logs: folder for the process's log.
        sender: ``raw``, or ``tritonclient`` for its own clients.
        seed: seeds every random choice.
        cpus: the cores it may run on; all where empty.
        start_timeout_s: how long it may take to start.

    Raises:
        EnvironmentFailedError: it does not start.
    """

    def __init__(
        self,
        target: Target,
        *,
        logs: Path,
        sender: Literal["raw", "tritonclient"] = "raw",
        seed: int,
        cpus: tuple[int, ...] = (),
        start_timeout_s: float = 30.0,
    ) -> None:
        self._target = target
        self._log = logs / LOG_NAME
        self._sender = sender
        self._seed = seed
        self._cpus = cpus
        self._start_timeout_s = start_timeout_s
        self._request_timeout_s = 0.0
        self._child: processes.ChildProcess | None = None
        self._connection: socket.socket | None = None
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Start the process."""
        # A socket's path may be 107 bytes long, so it does not lie in the run directory. Its folder is named
        # before it is there: an interrupt may come between any lines.
        folder = Path(tempfile.gettempdir()) / f"harness-load-{secrets.token_hex(4)}"
        try:
            folder.mkdir(mode=0o700)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(folder / "socket"))
                listener.listen(1)
                self._start(listener, folder)
            order = {"target": self._target.to_json(), "sender": self._sender, "seed": self._seed}
            self._ask("begin", order, ANSWER_S)
        except BaseException:
            self.close()
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    @property
    def pid(self) -> int:
        """Of the Locust process."""
        if self._child is None:
            raise LoadGeneratorDiedError("the load generator was not started")
        return self._child.pid

    def failure(self) -> str | None:
        """What broke the process, one sentence with its last words; ``None`` while it runs."""
        if self._child is None:
            return "the load generator was not started"
        status = self._child.poll()
        return None if status is None else str(self._died(f"ended with status {status}"))

    def aim(self, target: Target) -> None:
        """Send the levels to come to another target; the load is paused, or has not begun.

        Raises:
            EnvironmentFailedError: it is not paused.
        """
        self._ask("aim", {"target": target.to_json()}, ANSWER_S)

    def level(self, workload: Workload, load: Load, *, request_timeout_s: float) -> None:
        """Go over to a load level; return once all of its users run and have sent.

        Nothing is drained: each user goes over between two requests. The recording begins anew.

        Args:
            workload: what is sent.
            load: how much of it.
            request_timeout_s: for one request.

        Raises:
            UsageError: the model or the server does not take it, or the file of a replay is no longer what
                it was.
            EnvironmentFailedError: the users cannot send.
        """
        replayed = load.path if load.kind == "shaped" else None
        path = {"path": str(replayed)} if replayed else {}
        order = {
            "workload": workload.model_dump(mode="json"),
            "load": load.model_dump(mode="json") | path,
            "request_timeout_s": request_timeout_s,
        }
        patience_s = max(request_timeout_s, self._request_timeout_s) + ANSWER_S
        self._request_timeout_s = request_timeout_s
        self._ask("level", order, patience_s)

    def launch(self) -> int:
        """Begin the shape of the level, at whose first rate requests were sent so far.

        Returns:
            When it began, CLOCK_MONOTONIC in ns.

        Raises:
            EnvironmentFailedError: the level has none, or is over.
        """
        reply, _ = self._ask("launch", {}, ANSWER_S)
        return int(reply["start_ns"])

    def left(self) -> int:
        """How many requests are due and not sent yet, or in flight."""
        return int(self._ask("left", {}, ANSWER_S)[0]["requests"])

    def pause(self, timeout_s: float) -> None:
        """Park all users; return once everything in flight is answered.

        Raises:
            EnvironmentFailedError: it was not within ``timeout_s``.
        """
        self._ask("pause", {"timeout_s": timeout_s}, timeout_s + ANSWER_S)

    def latencies(self) -> npt.NDArray[np.float64]:
        """Latencies in ms since the level began, in the order of completion; at most the last 20,000.

        Counted from the schedule; right and wrong answers, without failures.
        """
        _, parts = self._ask("latencies", {"last": LATENCIES}, ANSWER_S)
        return np.frombuffer(parts[0], np.float64)

    def reasons(self) -> dict[str, int]:
        """How often each reason of a failure came up since the level began, without any secret."""
        found: dict[str, int] = self._ask("reasons", {}, ANSWER_S)[0]["reasons"]
        return found

    def collect(
        self, window_start_ns: int, window_end_ns: int
    ) -> tuple[npt.NDArray[np.void], GeneratorHealth]:
        """Fetch all samples since the level began, and how the generator fared in a window.

        Load goes on meanwhile.

        Returns:
            Structured array of ``records.SAMPLE_DTYPE`` in the order of completion, and the health.
        """
        window = (window_start_ns, window_end_ns)
        order = {"window_start_ns": window_start_ns, "window_end_ns": window_end_ns}
        reply, parts = self._ask("collect", order, ANSWER_S)
        readings, flying, reconnects = (np.frombuffer(part, np.int64) for part in parts[:3])
        samples = np.frombuffer(b"".join(parts[3:]), SAMPLE_DTYPE)
        fared = health(
            readings.reshape(-1, 3),
            window,
            reconnects_ns=reconnects,
            unsent=reply["unsent"],
            in_flight=most_in_flight(samples["sent_ns"], samples["done_ns"], flying, window),
            flying_ns=flying,
        )
        return samples, fared

    def close(self) -> None:
        """End the process in order, by force where it does not go; nothing is left."""
        self._hang_up()
        child, self._child = self._child, None
        if child is not None:
            deadline = time.monotonic() + CLOSE_S
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            child.stop(grace_s=0.0)

    def _start(self, listener: socket.socket, folder: Path) -> None:
        # Not from the current folder, where something else may be called harness.
        command = [sys.executable, "-P", "-m", "harness.load.process"]
        command += ["--socket", str(folder / "socket")]
        root = str(Path(harness.__file__).parent.parent)
        search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": search, "GRPC_VERBOSITY": "NONE"}
        self._child = processes.start(
            command, env=environment, log=self._log, cpus=self._cpus, folders=[folder]
        )
        listener.settimeout(0.1)
        deadline = time.monotonic() + self._start_timeout_s
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError as error:
                if (status := self._child.poll()) is not None:
                    raise self._died(f"ended with status {status} at its start") from error
                if time.monotonic() > deadline:
                    late = f"did not start within {self._start_timeout_s:g} s"
                    raise self._died(late) from error
            else:
                break
        self._connection = connection
        self._stream = cast("BinaryIO", connection.makefile("rwb"))

    def _ask(
        self, do: str, order: dict[str, Any], patience_s: float
    ) -> tuple[dict[str, Any], list[bytes]]:
        if self._connection is None or self._stream is None:
            raise self._died("is no longer connected")
        self._connection.settimeout(patience_s)
        try:
            send(self._stream, {"do": do, **order})
            received = receive(self._stream)
        except TimeoutError as error:
            self._hang_up()  # a late answer would be taken for the next one's
            raise self._died(f"did not answer within {patience_s:g} s") from error
        except OSError as error:
            self._hang_up()
            raise self._died("is gone") from error
        except BaseException:
            self._hang_up()  # interrupted midway: the answer is still to come
            raise
        if received is None:
            self._hang_up()
            raise self._died("is gone")
        if "error" in received[0]:
            raise error_from(received[0])
        return received

    def _hang_up(self) -> None:
        """Close the socket, which ends the process."""
        with contextlib.suppress(OSError):
            if self._stream is not None:
                self._stream.close()
        if self._connection is not None:
            self._connection.close()
        self._stream = self._connection = None

    def _died(self, how: str) -> LoadGeneratorDiedError:
        last = processes.log_tail(self._log, 5).replace("\n", " | ")
        return LoadGeneratorDiedError(
            f"the load generator {how}" + (f"; its last words: {last}" if last else ""),
            where=str(self._log),
            remedy="See its log",
        )
