"""Writes down a run that is sent by hand: a run directory that ``harness report`` reads."""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import numpy as np
import psutil

from harness import __version__
from harness.archive import KEPT_ROOM, RunDirectory
from harness.errors import EnvironmentFailedError, UsageError
from harness.host import git_revision, host_facts, package_versions
from harness.load.byhand.server_side import configuration_from
from harness.load.metadata import ask
from harness.point import Point
from harness.records import RunRecord, TrialRecord
from harness.scenario import Measure

if TYPE_CHECKING:
    from typing import NoReturn

    import numpy.typing as npt

    from harness.load.target import Target
    from harness.point import Load, Workload
    from harness.records import GeneratorHealth, StatisticsWindow

__all__ = ["Notebook"]

TELEMETRY_S = 0.2
FOLDERS = ("trials", "logs")
NOTE = (
    "Sent by hand with Locust. Each load level was measured in the order in which it came up, in one window"
    " from the end of its warm-up until it was left; nothing was randomised. The server's processes were"
    " watched only where it runs on this machine."
)


class Notebook:
    """The run directory of a run that is sent by hand.

    Args:
        path: the folder, new or empty.
        name: of the run.
        target: where the load goes.
        request_timeout_s: of one request.
        seed: that every random choice goes back to.

    Raises:
        UsageError: there is something in the folder already.
        EnvironmentFailedError: it cannot be made, or the server does not say what it serves.
    """

    def __init__(
        self, path: Path, name: str, target: Target, *, request_timeout_s: float, seed: int
    ) -> None:
        self.path = path
        self._run = RunDirectory(path)
        self._target = target
        self._seed = seed
        self._request_timeout_s = request_timeout_s
        self._name = name
        self._created = datetime.now(UTC)
        self._run_id = secrets.token_hex(6)
        self._passes: dict[str, int] = {}
        self._windows_s: list[float] = []
        self._sealed = 0
        self._readings: list[tuple[int, str, int, float, int]] = []
        # Once, before the load: later its own average would be that of the load, and git take its time.
        self._surroundings = {
            "host": host_facts(),
            "packages": package_versions(),
            "git_revision": git_revision(Path(__file__).parent),
        }
        self._server = {"kind": "remote", **ask(target.http, "server")}
        self._effective = self._configuration()
        _make(path)
        try:
            self._write("running")
        except BaseException:  # then it can be made again
            _unmake(path)
            raise
        self._telemetry = gevent.spawn(self._watch)

    def is_of(self, target: Target, request_timeout_s: float, seed: int) -> bool:
        """Whether what is sent so belongs into this run; protocol and client batch size may differ."""
        mine = (self._target, self._request_timeout_s, self._seed)
        return mine == (target, request_timeout_s, seed)

    def seal(
        self,
        workload: Workload,
        load: Load,
        samples: npt.NDArray[np.void],
        *,
        generator: GeneratorHealth | None,
        statistics: StatisticsWindow | None,
        **seen: Any,  # noqa: ANN401 - the other fields of a TrialRecord
    ) -> None:
        """Store one level as a trial.

        Args:
            workload: what was sent.
            load: how much of it.
            samples: structured array of ``archive.SAMPLE_DTYPE``.
            generator: how the generator fared in the window.
            statistics: of the server, over the window.
            seen: the other fields of :class:`harness.archive.TrialRecord`, by name.

        Raises:
            EnvironmentFailedError: no room on the disk.
        """
        try:
            self._effective = self._configuration()
        except EnvironmentFailedError as error:
            # It has gone: what was sent is kept as a broken trial.
            seen = {"failure": str(error), "failure_ns": time.monotonic_ns()} | seen
        effective = self._effective
        point = Point(
            configuration=configuration_from(self._target.model, effective),
            workload=workload,
            load=load,
        )
        pass_index = self._passes.get(point.key, 0)
        record = TrialRecord(
            index=self._sealed + 1,
            pass_index=pass_index,
            point=point,
            requested=effective,
            effective=effective,
            generator=generator,
            statistics=statistics,
            **seen,
        )
        readings, self._readings = self._readings, []
        self._run.seal_trial(record, samples, readings)
        self._passes[point.key] = pass_index + 1
        self._sealed += 1
        if record.window_s:
            self._windows_s.append(record.window_s)
        self._write("running")

    def _configuration(self) -> dict[str, Any]:
        """The model's, as the server has it now."""
        return ask(self._target.http, f"models/{self._target.model}/config")

    def close(self) -> None:
        """Say that the run is over."""
        self._telemetry.kill()
        self._write("complete")

    def _write(self, status: str) -> None:
        measure = Measure(
            window_s=float(np.median(self._windows_s)) if self._windows_s else 1.0,
            passes=max(self._passes.values(), default=1),
            request_timeout_s=self._request_timeout_s,
            sentinels=False,
            seed=self._seed,
        )
        scenario = {"name": self._name, "model": [self._target.model], "slo": {}}
        record: dict[str, Any] = {
            "harness_version": __version__,
            "run_id": self._run_id,
            "name": self._name,
            "created_utc": self._created,
            "finished_utc": None if status == "running" else datetime.now(UTC),
            "status": status,
            "scenario": {**scenario, "measure": measure.model_dump(mode="json")},
            "seed": self._seed,
            "command": tuple(sys.argv),
            "planned_trials": self._sealed,
            **self._surroundings,
            "server": self._server,
            "model": {self._target.model: {}},
            "notes": (NOTE,),
        }
        self._run.write_record(RunRecord.model_validate(record))

    def _watch(self) -> NoReturn:
        """Read this process, the server's where it runs on this machine, and the host."""
        server = _server(self._target.http)
        processes = [("generator", psutil.Process())]
        if server is not None:
            # Looking for them takes 10 ms, so it is done once: the model stays as it is.
            with contextlib.suppress(psutil.Error):  # it has just gone
                below = server.children(recursive=True)
                stubs = [child for child in below if "stub" in child.name()]
                processes += [("server", server), *(("stub", stub) for stub in stubs)]
        while True:
            for role, process in processes:
                with contextlib.suppress(psutil.Error):
                    self._readings.append(_reading(role, process))
            now_ns = time.monotonic_ns()
            host = psutil.cpu_times()
            busy_s = host.user + host.nice + host.system + host.irq + host.softirq
            self._readings.append((now_ns, "host", 0, busy_s, psutil.virtual_memory().used))
            gevent.sleep(TELEMETRY_S)


def _reading(role: str, process: psutil.Process) -> tuple[int, str, int, float, int]:
    with process.oneshot():
        used = process.cpu_times()
        memory = process.memory_info().rss
    return time.monotonic_ns(), role, process.pid, used.user + used.system, memory


def _server(address: str) -> psutil.Process | None:
    """The process that listens at an address of this machine, where it may be seen."""
    port = int(address.rpartition(":")[2])
    try:
        own = {place.address for places in psutil.net_if_addrs().values() for place in places}
        if socket.gethostbyname(address.rpartition(":")[0].strip("[]")) not in own:
            return None
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.pid
            if listens and getattr(connection.laddr, "port", None) == port:
                return psutil.Process(connection.pid)
    except (OSError, psutil.Error):
        pass
    return None


def _make(path: Path) -> None:
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                "is there already", where=str(path), remedy="Give --run-dir a new or empty folder"
            )
        for name in FOLDERS:
            (path / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailedError(
            f"the run directory cannot be made ({error.strerror or error})",
            where=str(path),
            remedy="Choose another folder with --run-dir",
        ) from error


def _unmake(path: Path) -> None:
    """Remove what is in a run directory before anything was sealed."""
    for name in ("run.json", KEPT_ROOM):
        (path / name).unlink(missing_ok=True)
    for name in FOLDERS:
        with contextlib.suppress(OSError):
            (path / name).rmdir()
