"""The control plane of a running Triton, over gRPC: load, configuration, statistics.

Control goes over gRPC, since a load over HTTP can stall inference. Every call has a deadline. What only
reads is tried again when the connection broke; what changes something is sent once.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

from harness.errors import EnvironmentFailedError, UsageError
from harness.servers.configuration import from_message
from harness.servers.snapshot import QUICK_NS, Snapshot, difference, take

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from harness.servers.server import Endpoints

__all__ = ["Control", "Snapshot", "difference"]

CALL_DEADLINE_S = 10.0
# It takes 2 ms, 60 ms at worst. A server that is frozen for 3 s survives that; one that stays so is ended.
SNAPSHOT_DEADLINE_S = 5.0
ATTEMPTS = 3
PAUSE_S = 0.1
LOG_LAG_S = 1.0
LARGEST_ANSWER_BYTES = 16 << 20
LARGEST_CONFIGURATION_BYTES = 1 << 18  # it is archived with each trial
LONGEST_MESSAGE = 4000
LARGEST_LOG_BYTES = 1 << 20
# Broken connections. A deadline is not among them: whoever set it does not want to wait again.
AGAIN = ("UNAVAILABLE",)

AnswerT = TypeVar("AnswerT")


class Control:
    """A connection to a server's control plane. Use it as a context manager.

    Args:
        endpoints: where the server listens.
        log: the server's log where it can be read here: some reasons stand nowhere else.
        deadline_s: of every call but a load.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        log: Path | None = None,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> None:
        import tritonclient.grpc as triton

        if endpoints.grpc is None:
            raise UsageError("the control plane is gRPC, and the server offers none")
        self._address = endpoints.grpc
        self._log = log
        self._deadline_s = deadline_s
        self._access = endpoints.access
        self._headers = self._access.header_values() or None
        credentials = None
        if self._access.grpc_tls:
            import grpc

            credentials = grpc.ssl_channel_credentials(*self._access.certificates())
        self._client = triton.InferenceServerClient(
            endpoints.grpc,
            ssl=credentials is not None,
            creds=credentials,
            channel_args=[
                ("grpc.max_receive_message_length", LARGEST_ANSWER_BYTES),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ready(self, deadline_s: float) -> None:
        """Wait until the server says that it is ready.

        Raises:
            EnvironmentFailedError: it does not within ``deadline_s``.
        """
        deadline = time.monotonic() + deadline_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                if self._call("readiness", self._client.is_server_ready, deadline_s=left_s):
                    return
            except EnvironmentFailedError:
                pass
            time.sleep(min(PAUSE_S, max(left_s, 0)))
        raise EnvironmentFailedError(
            f"the server was not ready within {deadline_s:g} s", where=self._address
        )

    def server_metadata(self) -> dict[str, Any]:
        """What the server says of itself: ``name``, ``version``, ``extensions``."""
        answer = self._read("server metadata", self._client.get_server_metadata)
        return {"name": answer.name, "version": answer.version, "extensions": [*answer.extensions]}

    def load(
        self,
        model: str,
        config: dict[str, Any] | None = None,
        *,
        files: dict[str, bytes] | None = None,
        deadline_s: float,
    ) -> None:
        """Load a model, or configure a loaded one anew; return when all its instances are ready.

        Args:
            model: its name in the repository.
            config: the whole configuration as JSON with the proto's names, instead of ``config.pbtxt``;
                a later load without one keeps it, until the model is unloaded.
            files: the model's files by ``file:1/model.py``, for one that is not in the repository.
            deadline_s: a Python stub that cannot start never answers; the server is then best restarted.

        Raises:
            EnvironmentFailedError: the server does not load it (with its reason), or not in time.
        """
        override = None if config is None else json.dumps(config)
        logged = self._logged()
        try:
            self._call(
                f"loading {model}",
                self._client.load_model,
                model,
                config=override,
                files=files,
                deadline_s=deadline_s,
            )
        except ConnectionBrokenError:
            time.sleep(PAUSE_S)  # until a server that has just died is known to be dead
            raise
        except EnvironmentFailedError as error:
            polled = "poll" in error.what
            if not polled and "no answer" not in error.what:
                raise
            reason = self._reason(logged, LOG_LAG_S if polled else 0)
            if not reason:
                raise
            raise EnvironmentFailedError(f"{error.what} ({reason})", where=error.where) from error

    def unload(self, model: str, *, deadline_s: float = CALL_DEADLINE_S) -> None:
        """Unload a model. The server answers at once, and lets requests in flight finish.

        Raises:
            EnvironmentFailedError: the server refuses.
        """
        self._call(f"unloading {model}", self._client.unload_model, model, deadline_s=deadline_s)

    def is_model_ready(self, model: str) -> bool:
        """Whether the server says that the model is ready; a dead stub leaves it so."""
        return bool(self._read(f"readiness of {model}", self._client.is_model_ready, model))

    def effective_configuration(self, model: str) -> dict[str, Any]:
        """The configuration that the model really has, as JSON with the proto's names."""
        answer = self._read(f"configuration of {model}", self._client.get_model_config, model)
        if answer.ByteSize() > LARGEST_CONFIGURATION_BYTES:
            raise EnvironmentFailedError(
                f"the configuration of {model} is larger than {LARGEST_CONFIGURATION_BYTES:,} bytes",
                where=self._address,
            )
        return from_message(answer.config)

    def snapshot(self, model: str) -> Snapshot:
        """Cumulative statistics of a model now: the quickest of up to three calls.

        Raises:
            EnvironmentFailedError: the server does not answer, or has no such model.
        """
        best: Snapshot | None = None
        for _ in range(ATTEMPTS):
            before_ns = time.monotonic_ns()
            answer = self._read(
                f"statistics of {model}",
                self._client.get_inference_statistics,
                model,
                deadline_s=min(SNAPSHOT_DEADLINE_S, self._deadline_s),
            )
            after_ns = time.monotonic_ns()
            if best is None or after_ns - before_ns < best.after_ns - best.before_ns:
                best = take(before_ns, after_ns, answer)
            if best.after_ns - best.before_ns <= QUICK_NS:
                break
        assert best is not None  # noqa: S101 - there is at least one attempt
        return best

    def _reason(self, start: int, patience_s: float) -> str:
        """The last error in the log; a container's arrives there a little later than its answer here."""
        deadline = time.monotonic() + patience_s
        while not (reason := reason_in_log(self._log, start)) and time.monotonic() < deadline:
            time.sleep(PAUSE_S)
        return reason

    def _logged(self) -> int:
        """How long the log is by now."""
        try:
            return self._log.stat().st_size if self._log else 0
        except OSError:
            return 0

    def _read(
        self,
        what: str,
        function: Callable[..., AnswerT],
        *arguments: Any,  # noqa: ANN401 - the client's own
        deadline_s: float | None = None,
    ) -> AnswerT:
        """Call what only reads: again where the connection broke, within one deadline."""
        deadline = time.monotonic() + (deadline_s or self._deadline_s)
        while True:
            left_s = deadline - time.monotonic()
            try:
                return self._call(what, function, *arguments, deadline_s=max(left_s, 0.001))
            except ConnectionBrokenError:
                if deadline - time.monotonic() < PAUSE_S:
                    raise
                time.sleep(PAUSE_S)

    def _call(
        self,
        what: str,
        function: Callable[..., AnswerT],
        *arguments: Any,  # noqa: ANN401 - the client's own
        deadline_s: float,
        **options: Any,  # noqa: ANN401 - the client's own
    ) -> AnswerT:
        """Call once; turn the client's error into a sentence."""
        from tritonclient.utils import InferenceServerException

        try:
            return function(*arguments, client_timeout=deadline_s, headers=self._headers, **options)
        except InferenceServerException as error:
            raise self._sentence(what, deadline_s, error) from error

    def _sentence(self, what: str, deadline_s: float, error: Any) -> EnvironmentFailedError:  # noqa: ANN401
        status = str(error.status() or "")
        if "DEADLINE_EXCEEDED" in status:
            return EnvironmentFailedError(
                f"{what}: no answer within {deadline_s:.3g} s", where=self._address
            )
        message = " ".join(str(error.message())[:LONGEST_MESSAGE].split()).rstrip(";. ")
        message = self._access.redacted(message)
        kind = ConnectionBrokenError if any(a in status for a in AGAIN) else EnvironmentFailedError
        return kind(f"{what}: {message}", where=self._address)


def reason_in_log(log: Path | None, start: int) -> str:
    """The last error that the server has logged since its log had ``start`` bytes; empty without one."""
    try:
        if log is None:
            return ""
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - LARGEST_LOG_BYTES))
            text = file.read(LARGEST_LOG_BYTES).decode(errors="replace")
    except OSError:
        return ""
    # [libprotobuf ERROR …/text_format.cc:337] Error parsing text-format inference.ModelConfig: 1:29: …
    # E1123 23:55:05.706695 30939 model_repository_manager.cc:1460] "Poll failed for …"
    parsing = re.findall(r"^\[libprotobuf ERROR [^\]\n]+\] (.+)$", text, re.MULTILINE)
    errors = parsing or re.findall(r"^E\d{4} [^\]\n]+\] (.+)$", text, re.MULTILINE)
    return errors[-1].strip().strip('"').rstrip(".") if errors else ""


class ConnectionBrokenError(EnvironmentFailedError):
    """The connection to the server broke, or there is nobody."""
