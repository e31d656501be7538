"""The control plane of a running Triton, over gRPC: load, configuration, statistics.

Control goes over gRPC, since a load over HTTP can stall inference. Log and trace settings are in
:mod:`harness.servers.settings`.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError
from harness.servers.configuration import from_message
from harness.servers.connection import CALL_DEADLINE_S, Connection, ConnectionBrokenError
from harness.snapshot import Snapshot, difference, quickest

if TYPE_CHECKING:
    from pathlib import Path

    from harness.servers.server import Endpoints

__all__ = ["Control", "Snapshot", "difference"]

# It takes 2 ms, 60 ms at worst. A server that is frozen for 3 s survives that; one that stays so is ended.
SNAPSHOT_DEADLINE_S = 5.0
PAUSE_S = 0.1
LOG_LAG_S = 1.0
LARGEST_CONFIGURATION_BYTES = 1 << 18  # it is archived with each trial
LARGEST_LOG_BYTES = 1 << 20


class Control(Connection):
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
        super().__init__(endpoints, deadline_s=deadline_s)
        self._log = log

    def server_metadata(self) -> dict[str, Any]:
        """What the server says of itself: ``name``, ``version``, ``extensions``."""
        answer = self.read("server metadata", self.client.get_server_metadata)
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
            self.call(
                f"loading {model}",
                self.client.load_model,
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
            if reason := self._reason(logged, LOG_LAG_S if polled else 0):
                what, remedy = f"{error.what} ({reason})", None
            else:
                what, remedy = error.what, self._advice(model, polled=polled)
            raise type(error)(what, where=error.where, remedy=remedy) from error

    def unload(self, model: str, *, deadline_s: float = CALL_DEADLINE_S) -> None:
        """Unload a model. The server answers at once, and lets requests in flight finish.

        Raises:
            EnvironmentFailedError: the server refuses.
        """
        self.call(f"unloading {model}", self.client.unload_model, model, deadline_s=deadline_s)

    def is_model_ready(self, model: str) -> bool:
        """Whether the server says that the model is ready; a dead stub leaves it so."""
        return bool(self.read(f"readiness of {model}", self.client.is_model_ready, model))

    def effective_configuration(self, model: str) -> dict[str, Any]:
        """The configuration that the model really has, as JSON with the proto's names."""
        answer = self.read(f"configuration of {model}", self.client.get_model_config, model)
        if answer.ByteSize() > LARGEST_CONFIGURATION_BYTES:
            raise EnvironmentFailedError(
                f"the configuration of {model} is larger than {LARGEST_CONFIGURATION_BYTES:,} bytes",
                where=self.address,
            )
        return from_message(answer.config)

    def snapshot(self, model: str) -> Snapshot:
        """Cumulative statistics of a model now: the quickest of up to three calls.

        Raises:
            EnvironmentFailedError: the server does not answer, or has no such model.
        """
        return quickest(
            lambda: self.read(
                f"statistics of {model}",
                self.client.get_inference_statistics,
                model,
                deadline_s=min(SNAPSHOT_DEADLINE_S, self.deadline_s),
            )
        )

    def _advice(self, model: str, *, polled: bool) -> str | None:
        """Where the reason stands that is not told here; ``None`` where the log is in reach."""
        if self._log is not None:
            return None
        if polled:  # what its parser said is in no answer, nor in the repository's index
            return f"See the server's own log for why polling '{model}' failed: Triton answers no more than that"
        return "See the server's own log"

    def _reason(self, start: int, patience_s: float) -> str:
        """The last error in the log; a container's arrives there a little later than its answer here."""
        if self._log is None:
            return ""
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
