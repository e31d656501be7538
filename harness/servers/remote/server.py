"""The server that somebody else runs: attached to, measured, and left as it was found."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError
from harness.servers.control import Control
from harness.servers.remote.reading import HttpReading
from harness.servers.remote.survey import find_endpoints, survey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.scenario import ServerSpec
    from harness.servers.remote.survey import Survey
    from harness.servers.server import Endpoints, Offers, ProcessRole

__all__ = ["RemoteServer", "control_of", "serving_remote"]

PAUSE_S = 0.25


class RemoteServer:
    """A server that is not ours: neither its log nor its processes are in reach.

    Args:
        survey: what was found out about it.
    """

    log = None

    def __init__(self, survey: Survey) -> None:
        self._survey = survey

    @property
    def endpoints(self) -> Endpoints:
        """Where it listens."""
        return self._survey.endpoints

    @property
    def offers(self) -> Offers:
        """What it lets us do."""
        return self._survey.offers

    def describe(self) -> dict[str, Any]:
        """What it says of itself, and what it offers; nothing of where it is, and no secret."""
        found = self._survey
        return {
            "kind": "remote",
            "name": found.name,
            "version": found.version,
            "extensions": list(found.extensions),
            "offers": {name: what for name, what in asdict(found.offers).items() if what != ""},
            "metrics": found.endpoints.metrics_port is not None,
        }

    def processes(self) -> list[tuple[ProcessRole, int]]:
        """None that could be seen from here."""
        return []

    def failure(self) -> str | None:
        """Nothing is known but whether it answers, and :mod:`harness.servers.health` asks that."""
        return None

    def stop(self) -> None:
        """Nothing: it goes on."""


@contextmanager
def serving_remote(
    spec: ServerSpec,
    repository: Path,  # noqa: ARG001 - as the others
    *,
    logs: Path,  # noqa: ARG001 - as the others
    run_id: str,  # noqa: ARG001 - as the others
) -> Iterator[RemoteServer]:
    """Attach to the server of ``spec``; one that has just gone is waited for until it is back.

    See :func:`harness.servers.start.serving`; the repository is the server's own, and stays as it is.
    """
    deadline = time.monotonic() + spec.ready_timeout_s
    while True:
        try:
            found = survey(find_endpoints(spec))
        except EnvironmentFailedError as error:
            if time.monotonic() > deadline:
                raise EnvironmentFailedError(
                    f"the server did not answer within {spec.ready_timeout_s:g} s: {error.what}",
                    where=error.where,
                    remedy=error.remedy,
                ) from error
            time.sleep(PAUSE_S)
        else:
            break
    yield RemoteServer(found)


def control_of(endpoints: Endpoints, log: Path | None = None) -> Control | HttpReading:
    """A server's control plane, or what can be read without one."""
    if endpoints.grpc_port is None:
        return HttpReading(endpoints)
    return Control(endpoints, log=log)
