"""Small questions to a server's HTTP endpoint, with short timeouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.asking import get, get_json
from harness.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from harness.servers.server import Endpoints

__all__ = ["answers", "metadata"]

OK = 200


def answers(endpoints: Endpoints, path: str, timeout_s: float = 2.0) -> bool:
    """Whether ``path``, such as ``/v2/health/ready``, answers 200 within ``timeout_s``."""
    at = endpoints
    try:
        reply = get(at.host, at.http_port, path, access=at.access, timeout_s=timeout_s)
    except EnvironmentFailedError:
        return False
    return reply.status == OK


def metadata(endpoints: Endpoints, timeout_s: float = 5.0) -> dict[str, Any]:
    """What the server says of itself (``/v2``): name, version, extensions; empty where it does not."""
    at = endpoints
    try:
        return get_json(at.host, at.http_port, "/v2", access=at.access, timeout_s=timeout_s)
    except EnvironmentFailedError:
        return {}
