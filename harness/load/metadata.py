"""What the server says of a model, for those who bring no reference file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tritonclient.http
from geventhttpclient.response import HTTPProtocolViolationError
from tritonclient.utils import InferenceServerException

from harness.errors import EnvironmentFailedError
from harness.load.examples import Examples, from_metadata, from_reference

if TYPE_CHECKING:
    from harness.load.target import Target

__all__ = ["ask", "examples"]

TIMEOUT_S = 30.0


def ask(address: str, path: str) -> dict[str, Any]:
    """Get a JSON object from a server, such as ``models/cnn/stats``.

    Args:
        address: ``host:port``.
        path: below ``/v2/``.

    Raises:
        EnvironmentFailedError: the server does not answer, or not with one.
    """
    where = f"http://{address}/v2/{path}"
    try:
        client = tritonclient.http.InferenceServerClient(
            address, connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S
        )
        try:
            return _get(client, path)
        finally:
            client.close()
    except (OSError, HTTPProtocolViolationError, InferenceServerException, ValueError) as error:
        raise EnvironmentFailedError(
            f"the server does not say what was asked ({error})",
            where=where,
            remedy="Look whether it is up, and whether the model is loaded",
        ) from error


def _get(client: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 - tritonclient has no types
    match path.split("/"):
        case ["models", model]:
            answer = client.get_model_metadata(model)
        case ["models", model, "config"]:
            answer = client.get_model_config(model)
        case ["models", model, "stats"]:
            answer = client.get_inference_statistics(model)
        case _:
            answer = client.get_server_metadata()
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - it is the server's mistake
    return answer


def examples(target: Target, seed: int) -> Examples:
    """The examples to send: the reference file's; random ones that fit the metadata without one.

    Raises:
        UsageError: the reference file cannot be used.
        EnvironmentFailedError: there is none, and the server does not tell the metadata.
    """
    given = from_reference(target) if target.reference else None
    if given is not None and given.outputs:
        return given
    described = from_metadata(
        ask(target.http, f"models/{target.model}"), batched=target.batched, seed=seed
    )
    if given is None:
        return described
    return Examples(given.inputs, described.outputs, given.data)
