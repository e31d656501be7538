"""Small questions to a server's HTTP endpoint, with the standard library alone and short timeouts."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.servers.server import Endpoints

__all__ = ["answers", "metadata"]

LARGEST_ANSWER_BYTES = 1 << 20


def answers(endpoints: Endpoints, path: str, timeout_s: float = 2.0) -> bool:
    """Whether ``path``, such as ``/v2/health/ready``, answers 200 within ``timeout_s``."""
    return _get(endpoints, path, timeout_s) is not None


def metadata(endpoints: Endpoints, timeout_s: float = 5.0) -> dict[str, Any]:
    """What the server says of itself (``/v2``): name, version, extensions; empty where it does not."""
    try:
        answer = json.loads(_get(endpoints, "/v2", timeout_s) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _get(endpoints: Endpoints, path: str, timeout_s: float) -> bytes | None:
    connection = http.client.HTTPConnection(endpoints.host, endpoints.http_port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(LARGEST_ANSWER_BYTES)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == http.client.OK else None
