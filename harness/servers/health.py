"""Whether a server still serves: it lives, it answers, and no Python stub of its models is missing.

Triton's own readiness stays green when a stub has died, while every inference on it fails with 500.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from harness.servers.inquiry import answers
from harness.servers.triton import lives

if TYPE_CHECKING:
    from harness.servers.server import Server

__all__ = ["Health"]

# A server that is frozen for 3 s is borne, one that stays so is noticed within 5 s. Its silence is met up to
# 0.2 s late, at the next look of its watch; the rest is for a machine that is busy with other work. On the other
# side less is needed: see HELD_UP_S.
FROZEN_S = 3.6  # so long without an answer, and a server counts as frozen
ASK_EVERY_S = 0.1  # at most
ANSWER_TIMEOUT_S = 1.0
LAST_TIMEOUT_S = 0.5  # at least, of the question on which a server is given up
HELD_UP_S = 0.25  # a question that took so much longer than it may says more of this machine
SILENT_S = 1.0  # so long, and it is noted
CAUSE_S = 0.5  # so long the cause of a stub's death is waited for
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
        self._watched: tuple[_Stubs, ...] = ()
        self._asked = 0.0
        self.silences: list[tuple[int, float]] = []

    def release(self) -> None:
        """Let every stub go: call it before a load, which ends those of the former configuration."""
        self._watched = ()

    def settle(self, model: str | None = None, *, instances: int | None = None) -> None:
        """Watch the stubs that are there now: call it after each load.

        A model that is configured anew gets new stubs; its old ones linger for seconds and then go, which
        is no failure as long as there are as many as the model has instances. Their names do not tell which
        of them stay: of ``cnn_0_0`` and ``cnn_0_1`` Triton may keep either, and give the next new one the
        name of the one that it kept.

        Args:
            model: whose stubs are watched; of all models where none is named.
            instances: how many instances it has now, each with a stub; as many as have different names
                where left out.
        """
        seen: dict[str, list[_Stub]] = {}
        for role, pid in self._server.processes():
            if role == "stub":
                try:
                    stub = _stub(pid)
                except psutil.Error:
                    continue
                if model is None or stub.model == model:
                    seen.setdefault(stub.model, []).append(stub)
        # None at all: another backend, or processes that are not seen from here.
        self._watched = tuple(
            _Stubs(name, tuple(stubs), instances or len({stub.instance for stub in stubs}))
            for name, stubs in seen.items()
        )

    def failure(self) -> str | None:
        """``None`` while it serves, then one sentence that says why not.

        A dead server or stub is seen at once. A silent one is waited for, :data:`FROZEN_S` seconds long.
        """
        if failure := self._server.failure():
            return failure
        watched = self._watched
        failures = [failure for stubs in watched if (failure := stubs.failure())]
        # Released in the meantime, by another thread, they may go.
        if failures and watched is self._watched:
            return self._cause() or failures[0]
        return self._silence()

    def _cause(self) -> str | None:
        """Why a stub has died, where that is learnt a moment later: an engine's word of memory that ran out."""
        deadline = time.monotonic() + CAUSE_S
        while (failure := self._server.failure()) is None and time.monotonic() < deadline:
            time.sleep(PAUSE_S)
        return failure

    def _silence(self) -> str | None:
        """Ask the server now and then; where it does not answer, ask until it does or is given up."""
        began = asked = time.monotonic()
        if began - self._asked < ASK_EVERY_S:
            return None
        timeout_s = ANSWER_TIMEOUT_S
        while not answers(self._server.endpoints, "/v2/health/live", timeout_s):
            # A server that has just died does not answer either.
            if failure := self._server.failure():
                return failure
            now = time.monotonic()
            # Where this process was held up itself, the answer may have been there in time: ask once more.
            held_up = now - asked > timeout_s + HELD_UP_S and now - began < 2 * FROZEN_S
            if now - began >= FROZEN_S and not held_up:
                return f"the server has not answered for {FROZEN_S:g} s: it hangs, or it is frozen"
            time.sleep(PAUSE_S)
            asked = time.monotonic()
            left_s = began + FROZEN_S - asked
            last = left_s < 2 * ANSWER_TIMEOUT_S
            timeout_s = max(left_s, LAST_TIMEOUT_S) if last else ANSWER_TIMEOUT_S
        self._asked = time.monotonic()
        if self._asked - began >= SILENT_S:
            self.silences.append((time.monotonic_ns(), self._asked - began))
        return None


@dataclass(frozen=True)
class _Stub:
    """A Python stub, and the instance of a model that it serves."""

    model: str
    instance: str
    created: float
    process: psutil.Process


@dataclass(frozen=True)
class _Stubs:
    """The stubs of one model after a load: ``needed`` of them must live."""

    model: str
    stubs: tuple[_Stub, ...]
    needed: int

    def failure(self) -> str | None:
        """What is missing, one sentence; ``None`` while there are enough."""
        if len(self.stubs) < self.needed:
            return (
                f"of the {self.needed} instances of {self.model} only {len(self.stubs)} have a Python"
                " stub: the server says that all are ready, and some inferences there fail"
            )
        dead = [stub for stub in self.stubs if not lives(stub.process)]
        if len(self.stubs) - len(dead) >= self.needed:
            return None
        last = max(dead, key=lambda stub: stub.created)
        return (
            f"the Python stub of {last.instance} (process {last.process.pid}) has died:"
            " the server says that it is ready, and every inference there fails"
        )


def _stub(pid: int) -> _Stub:
    """What a stub serves, from its command line (``stub_launcher.cc``).

    Its second word is ``<repository>/<model>/<version>/model.py``, its ninth the instance's name.

    Raises:
        psutil.Error: it has gone.
    """
    process = psutil.Process(pid)
    words = process.cmdline()
    model = words[1].split("/")[-3] if len(words) > 1 and words[1].count("/") > 2 else ""
    instance = words[8] if len(words) > 8 else f"process {pid}"
    return _Stub(model, instance, process.create_time(), process)
