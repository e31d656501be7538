"""A server whose processes nobody sees from here: asked, while it is under load, whether it is still what it was.

Of a server that runs here the end of a process says at once that it restarted, or that a Python stub died. Of
another one only its answers do: one that restarts may miss no question of :mod:`harness.servers.health`, and one
whose stub has died says that it is ready, while every request fails.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError
from harness.repository.configuration import require_unchanged
from harness.snapshot import require_growth

if TYPE_CHECKING:
    from harness.load.driver import Driver
    from harness.servers.control import Control
    from harness.servers.remote.reading import HttpReading
    from harness.snapshot import Snapshot

__all__ = ["DeadStubError", "Unseen"]

ASK_EVERY_S = 1.0
# Triton's words (python_be.cc) of a model whose stub has died.
DEAD_STUB = ("Stub process", "is not healthy")


class DeadStubError(EnvironmentFailedError):
    """A stub has died; the model must be unloaded: to be loaded as it is already would change nothing."""


class Unseen:
    """Ask it as often as you like; it asks the server once a second.

    Args:
        control: of the server.
        driver: of the load that is on.
        model: the model that is under load.
        effective: its configuration once it was set; ``None`` of a server that does not say.
        latest: its statistics by then; ``None`` of a server that keeps none.
    """

    def __init__(
        self,
        control: Control | HttpReading,
        driver: Driver,
        model: str,
        effective: dict[str, Any] | None,
        latest: Snapshot | None,
    ) -> None:
        self._control = control
        self._driver = driver
        self._model = model
        self._effective = effective
        self._latest = latest
        self._asked = time.monotonic()

    def check(self, *, at_once: bool = False) -> None:
        """See that it is the same server, with the same model, and that the model's stubs live.

        A server that does not answer is left to those who watch it.

        Raises:
            EnvironmentFailedError: it is not; :class:`DeadStubError` where a stub has died.
        """
        if time.monotonic() - self._asked < ASK_EVERY_S and not at_once:
            return
        effective, latest = self._effective, self._latest
        try:
            if effective is not None:
                effective = self._control.effective_configuration(self._model)
            if latest is not None:
                latest = self._control.snapshot(self._model)
            reasons = self._driver.reasons()
        except EnvironmentFailedError:
            return
        self._asked = time.monotonic()
        if self._effective is not None and effective is not None:
            require_unchanged(self._effective, effective)
        if self._latest is not None and latest is not None:
            require_growth(self._latest, latest)
            self._latest = latest
        if dead := next(
            (each for each in reasons if all(part in each for part in DEAD_STUB)), None
        ):
            raise DeadStubError(
                f"a Python stub of {self._model} has died: the server says that it is ready, and answers {dead!r}"
            )
