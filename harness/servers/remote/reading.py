"""What can be read of a model over HTTP, of a server whose gRPC is not there: no control, only answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from harness.asking import get_json
from harness.errors import EnvironmentFailedError, UsageError
from harness.servers.configuration import from_message
from harness.snapshot import quickest

if TYPE_CHECKING:
    from harness.servers.server import Endpoints
    from harness.snapshot import Snapshot

__all__ = ["HttpReading"]

CALL_S = 5.0
SNAPSHOT_S = 2.0


class HttpReading:
    """Stands in for :class:`harness.servers.control.Control` where there is no gRPC; loads nothing.

    Args:
        endpoints: where the server listens.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._at = endpoints

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def close(self) -> None:
        """Nothing is open."""

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def load(
        self,
        model: str,
        config: dict[str, Any] | None = None,  # noqa: ARG002 - as the other
        *,
        files: dict[str, bytes] | None = None,  # noqa: ARG002 - as the other
        deadline_s: float,  # noqa: ARG002 - as the other
    ) -> None:
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{model} cannot be loaded: the server offers no gRPC")

    def unload(self, model: str, *, deadline_s: float = CALL_S) -> None:  # noqa: ARG002 - as the other
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{model} cannot be unloaded: the server offers no gRPC")

    def metadata(self, model: str) -> dict[str, Any]:
        """A model's inputs and outputs, as KServe v2 gives them.

        Raises:
            EnvironmentFailedError: the server does not serve it, or says nothing of it.
        """
        return self._get(model, "", CALL_S)

    def effective_configuration(self, model: str) -> dict[str, Any]:
        """The configuration that the model has, as JSON with the proto's names.

        Raises:
            EnvironmentFailedError: the server does not say.
        """
        from tritonclient.grpc import model_config_pb2

        answer = self._get(model, "/config", CALL_S)
        return from_message(self._parsed(answer, model_config_pb2.ModelConfig()))

    def snapshot(self, model: str) -> Snapshot:
        """Cumulative statistics of a model now: the quickest of up to three calls.

        Raises:
            EnvironmentFailedError: the server does not say.
        """
        from tritonclient.grpc import service_pb2

        return quickest(
            lambda: self._get(model, "/stats", SNAPSHOT_S),
            lambda answer: self._parsed(answer, service_pb2.ModelStatisticsResponse()),
        )

    def _get(self, model: str, part: str, timeout_s: float) -> dict[str, Any]:
        at, path = self._at, f"/v2/models/{quote(model)}{part}"
        return get_json(at.host, at.http_port, path, access=at.access, timeout_s=timeout_s)

    def _parsed(self, answer: dict[str, Any], message: Any) -> Any:  # noqa: ANN401 - protobuf messages
        from google.protobuf import json_format

        try:
            return json_format.ParseDict(answer, message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            reason = str(error).partition("\n")[0][:200]
            raise EnvironmentFailedError(
                f"the server's answer makes no sense ({reason})", where=self._at.http
            ) from error
