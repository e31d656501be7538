"""What the server says of a model, for those who bring no reference file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from harness.access import OPEN, Access
from harness.asking import get_json
from harness.errors import EnvironmentFailedError
from harness.load.examples import Examples, from_metadata, from_reference

if TYPE_CHECKING:
    from harness.load.target import Target

__all__ = ["ask", "examples"]

TIMEOUT_S = 30.0


def ask(address: str, path: str, access: Access = OPEN) -> dict[str, Any]:
    """Get a JSON object from a server, such as ``models/cnn/stats``.

    Args:
        address: ``host:port``.
        path: below ``/v2/``; ``server`` for what it says of itself.
        access: what the server asks of those who come.

    Raises:
        EnvironmentFailedError: the server does not answer, or not with one.
    """
    host, _, port = address.rpartition(":")
    whole = "/v2" if path == "server" else f"/v2/{quote(path)}"
    try:
        return get_json(host.strip("[]"), int(port), whole, access=access, timeout_s=TIMEOUT_S)
    except EnvironmentFailedError as error:
        raise EnvironmentFailedError(
            f"the server does not say what was asked ({error.what})",
            where=error.where,
            remedy="Look whether it is up, and whether the model is loaded",
        ) from error


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
        ask(target.http, f"models/{target.model}", target.access),
        batched=target.batched,
        seed=seed,
    )
    if given is None:
        return described
    return Examples(given.inputs, described.outputs, given.data)
