"""Whether a server still serves: it lives, it answers, and no Python stub of its models is missing.

Triton's own readiness stays green when a stub has died, while every inference on it fails with 500.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from harness.servers.inquiry import answers

if TYPE_CHECKING:
    from harness.servers.server import Server

__all__ = ["Health"]

ASK_EVERY_S = 0.5
ANSWER_TIMEOUT_S = 1.0
FROZEN_S = 3.8  # so long without an answer, and a server counts as frozen
SILENT_S = 1.0  # so long, and it is noted
PAUSE_S = 0.1  # between two questions to a server that refuses


class Health:
    """Looks at one server; ask it as often as you like.

    Attributes:
        silences: when the server answered again after a silence (CLOCK_MONOTONIC, ns), and how many
            seconds that had lasted.

    Args:
        server: the server to look at.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stubs: dict[str, psutil.Process] = {}
        self._missing = ""
        self._asked = 0.0
        self.silences: list[tuple[int, float]] = []

    def release(self) -> None:
        """Let every stub go: call it before a load, which ends those of the former configuration."""
        self._stubs, self._missing = {}, ""

    def settle(self, model: str | None = None, *, instances: int | None = None) -> None:
        """Take the stubs that are there now for those that must stay: call it after each load.

        A model that is configured anew gets new stubs; its old ones linger for seconds and then go, which
        is no failure: of each instance only the newest stub counts, and none that is one too many.

        Args:
            model: whose stubs must stay; of all models where none is named.
            instances: how many instances it has now, each with a stub; as many as are seen where left out.
        """
        newest: dict[str, tuple[float, psutil.Process]] = {}
        for role, pid in self._server.processes():
            if role == "stub":
                try:
                    stub = psutil.Process(pid)
                    (served, instance), created = _served(stub), stub.create_time()
                except psutil.Error:
                    continue
                if model is not None and served != model:
                    continue
                if instances is not None and _number(instance) >= instances:
                    continue
                if instance not in newest or newest[instance][0] < created:
                    newest[instance] = (created, stub)
        self._stubs = {instance: stub for instance, (_, stub) in newest.items()}
        # None at all: another backend, or processes that are not seen from here.
        short = model is not None and 0 < len(newest) < (instances or 0)
        self._missing = (
            f"of the {instances} instances of {model} only {len(newest)} have a Python stub:"
            " the server says that all are ready, and some inferences there fail"
            if short
            else ""
        )

    def failure(self) -> str | None:
        """``None`` while it serves, then one sentence that says why not.

        A dead server or stub is seen at once. A silent one is waited for, :data:`FROZEN_S` seconds long.
        """
        if failure := self._server.failure():
            return failure
        if self._missing:
            return self._missing
        stubs = self._stubs
        for instance, stub in stubs.items():
            # Released in the meantime, by another thread, it may go.
            if not _lives(stub) and stubs is self._stubs:
                return (
                    f"the Python stub of {instance} (process {stub.pid}) has died:"
                    " the server says that it is ready, and every inference there fails"
                )
        return self._silence()

    def _silence(self) -> str | None:
        """Ask the server now and then; where it does not answer, ask until it does or is given up."""
        asked = time.monotonic()
        if asked - self._asked < ASK_EVERY_S:
            return None
        left_s = FROZEN_S
        while not answers(self._server.endpoints, "/v2/health/live", min(ANSWER_TIMEOUT_S, left_s)):
            # A server that has just died does not answer either.
            if failure := self._server.failure():
                return failure
            left_s = asked + FROZEN_S - time.monotonic()
            if left_s <= 0:
                return f"the server has not answered for {FROZEN_S:g} s: it hangs, or it is frozen"
            time.sleep(min(PAUSE_S, left_s))
        self._asked = time.monotonic()
        if self._asked - asked >= SILENT_S:
            self.silences.append((time.monotonic_ns(), self._asked - asked))
        return None


def _served(stub: psutil.Process) -> tuple[str, str]:
    """Model and instance that a stub serves, from its command line (``stub_launcher.cc``).

    Its second word is ``<repository>/<model>/<version>/model.py``, its ninth the instance's name.
    """
    words = stub.cmdline()
    model = words[1].split("/")[-3] if len(words) > 1 and words[1].count("/") > 2 else ""
    return model, words[8] if len(words) > 8 else f"process {stub.pid}"


def _number(instance: str) -> int:
    """Which of its model's instances it is, from 0; Triton calls them ``cnn_0_0`` and ``cnn_0_1``."""
    digits = instance.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
