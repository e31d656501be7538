"""What a server that somebody else runs offers: asked without changing anything there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.access import handshake
from harness.asking import get, get_json, knock
from harness.errors import EnvironmentFailedError, HarnessError
from harness.servers.container.launch import STANDARD_PORTS
from harness.servers.control import Control
from harness.servers.server import Endpoints, Offers

if TYPE_CHECKING:
    from harness.server_spec import ServerSpec

__all__ = ["Survey", "find_endpoints", "survey"]

CALL_S = 5.0
GLANCE_S = 1.0  # at an endpoint that may not be there
# No model has this name; unloading it changes nothing, and is refused where models cannot be loaded.
NOBODY = "harness-asks-whether-models-can-be-unloaded"
LONGEST_WORD = 200
LIVE = "/v2/health/live"
OK, REFUSED = 200, (400, 401, 403)
MOST_EXTENSIONS = 64
NO_GRPC = "it offers no gRPC, over which models are loaded"


@dataclass(frozen=True)
class Survey:
    """What is known of a server before anything is measured.

    Attributes:
        endpoints: where it listens; those that it does not offer are left out.
        version: as the server says it, cut to a length that can be shown.
        name: likewise.
        extensions: likewise.
        offers: what it lets us do.
    """

    endpoints: Endpoints
    name: str
    version: str
    extensions: tuple[str, ...]
    offers: Offers


def find_endpoints(spec: ServerSpec) -> Endpoints:
    """Find out where the server of ``spec`` listens; a port that is given must answer.

    Raises:
        EnvironmentFailedError: HTTP, or a port that was given, does not answer.
        UsageError: a secret or a certificate that cannot be used.
    """

    def port(given: int, name: str) -> int | None:
        # Beside another HTTP port, the standard ones may be those of another server.
        return given or (None if spec.http_port else STANDARD_PORTS[name])

    at = Endpoints(
        host=spec.host or "",
        http_port=spec.http_port or STANDARD_PORTS["http"],
        grpc_port=port(spec.grpc_port, "grpc"),
        metrics_port=port(spec.metrics_port, "metrics"),
        access=spec.access,
    )
    reply = get(at.host, at.http_port, LIVE, access=at.access, timeout_s=CALL_S)
    if reply.status in REFUSED:
        get_json(at.host, at.http_port, LIVE, access=at.access, timeout_s=CALL_S)
    if at.grpc_port:
        try:
            _reach_grpc(at, CALL_S if spec.grpc_port else GLANCE_S)
        except EnvironmentFailedError:
            if spec.grpc_port:
                raise
            at = replace(at, grpc_port=None)
    return at if _offers_metrics(at) else replace(at, metrics_port=None)


def _offers_metrics(at: Endpoints) -> bool:
    """Whether its metrics can be read, which Triton gives without TLS: no secret goes there."""
    if at.metrics_port is None:
        return False
    try:
        reply = get(at.host, at.metrics_port, "/metrics", timeout_s=GLANCE_S)
    except EnvironmentFailedError:
        return False
    return reply.status == OK


def _reach_grpc(at: Endpoints, timeout_s: float) -> None:
    """Say plainly why gRPC cannot be reached, where it cannot."""
    if at.access.grpc_tls:
        handshake(at.host, at.grpc_port or 0, at.access, timeout_s=timeout_s, protocol="h2")
    else:
        knock(at.host, at.grpc_port or 0, timeout_s)
    with Control(at, deadline_s=timeout_s) as control:
        control.server_metadata()


def survey(endpoints: Endpoints) -> Survey:
    """Ask a server that can be reached what it is, and what it offers.

    Raises:
        EnvironmentFailedError: it does not say what it is: no server of KServe v2.
    """
    at = endpoints
    said = get_json(at.host, at.http_port, "/v2", access=at.access, timeout_s=CALL_S)
    extensions = said.get("extensions")
    words = tuple(map(_word, extensions[:MOST_EXTENSIONS])) if isinstance(extensions, list) else ()
    without = "" if at.grpc_port else NO_GRPC
    if not without:
        without = _without_control(at)
    offers = Offers(
        model_control=not without,
        configuration="model_configuration" in words,
        statistics="statistics" in words,
        binary="binary_tensor_data" in words,
        processes=False,
        without_control=without,
    )
    return Survey(at, _word(said.get("name")), _word(said.get("version")), words, offers)


def _without_control(at: Endpoints) -> str:
    """Why the server does not let models be loaded; empty where it does."""
    try:
        with Control(at, deadline_s=CALL_S) as control:
            control.unload(NOBODY, deadline_s=CALL_S)
    except HarnessError as error:
        return error.what.partition(": ")[2] or error.what
    return ""


def _word(value: object) -> str:
    """What a server says in one word, made fit to be shown: no control characters, no great length."""
    text = value if isinstance(value, str) else ""
    return re.sub(r"[^\x20-\x7e\xa0-￿]", "?", text[:LONGEST_WORD])
