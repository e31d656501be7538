"""The bench that one trial after the other is measured on: a server, a load generator, a thermometer.

A trial goes like this: set the server to the configuration (load paused) and read back what became of
it; the first time, see that one request fits into the window; give the generator its level; wait for the
warm-up to pass; take the server's statistics, let the window pass, take them again; fetch the samples. Load
does not drain between later levels, and the difference of the statistics covers exactly the window.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.alone import Alone
from harness.errors import EnvironmentFailedError
from harness.load.driver import Driver
from harness.records import SAMPLE_DTYPE, TrialRecord
from harness.repository.configuration import differences, with_server_configuration
from harness.repository.features import with_features
from harness.repository.probes import PROBE, probe_configuration, probe_files, probe_folder
from harness.servers.connection import ConnectionBrokenError, NoAnswerError
from harness.servers.control import Control, difference
from harness.servers.gpus import require_gpus
from harness.servers.readings.metric_log import MetricLog
from harness.servers.readings.sources import sources_of
from harness.servers.readings.telemetry import Telemetry
from harness.servers.remote.server import control_of
from harness.servers.settings import record
from harness.servers.staging import staged
from harness.servers.start import serving
from harness.servers.watch import Watch
from harness.snapshot import require_growth
from harness.targets import as_served, model_target, target_of
from harness.unseen import DeadStubError, Unseen
from harness.window import let_pass, settle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from harness.point import ServerConfiguration
    from harness.repository.exported import ExportedModel
    from harness.scenario import Scenario
    from harness.servers.remote.reading import HttpReading
    from harness.servers.server import Server
    from harness.snapshot import Snapshot
    from harness.sweep import PlannedTrial

__all__ = ["Bench", "Measured", "open_bench"]


@dataclass(frozen=True)
class Measured:
    """One finished trial, to be sealed.

    Attributes:
        record: what was asked for and what was seen.
        samples: structured array of ``records.SAMPLE_DTYPE``, shape (requests,).
        telemetry: rows of ``records.TELEMETRY_COLUMNS`` since the trial before.
        metrics: rows of ``records.METRIC_COLUMNS`` since the trial before.
    """

    record: TrialRecord
    samples: npt.NDArray[np.void]
    telemetry: list[tuple[int, str, int, float, int]]
    metrics: list[tuple[int, str, str, str, float]]


@dataclass
class Bench:
    """Everything that is up while trials are measured.

    Attributes:
        refused: configurations that the server would not take, by key, with the reason; it outlives the
            bench, so that none is tried on every pass.
        latest: the statistics after the last window of the current configuration.
        asked: the key of the configuration that the server was asked to take for the latest trial.
        stub_died: whether a stub has that nobody here can see.
        hung: what a server of ours did not answer while it loaded a model; it may answer none from then on.
    """

    scenario: Scenario
    models: Mapping[str, ExportedModel]
    server: Server
    watch: Watch
    control: Control | HttpReading
    driver: Driver
    telemetry: Telemetry
    metrics: MetricLog
    refused: dict[str, str]
    current: ServerConfiguration | None = None
    requested: dict[str, Any] = field(default_factory=dict)
    effective: dict[str, Any] | None = None
    latest: Snapshot | None = None
    asked: str | None = None
    stub_died: bool = False
    hung: str | None = None

    def __post_init__(self) -> None:
        """Begin to know how long requests take."""
        self._alone = Alone(self.scenario, self.driver, self._check)

    def failure(self) -> str | None:
        """What broke the server or the generator, one sentence; ``None`` while both are up."""
        return self.watch.failure() or self.driver.failure() or self.hung

    def confirmed_failure(self) -> str | None:
        """As :meth:`failure`, after one more look at the server: for when something has gone wrong."""
        return self.watch.confirmed() or self.driver.failure() or self.hung

    @contextmanager
    def probe(self, model: str, *, sleep_us: int) -> Iterator[str]:
        """Serve the probe in the guise of ``model`` and aim the load at it; give its name.

        Raises:
            EnvironmentFailedError: the server cannot load it.
        """
        like = self.models[model].configuration
        self._aim(None)
        largest = max(self.scenario.sweep.batch_size)
        configuration = probe_configuration(like, sleep_us=sleep_us, largest_batch=largest)
        # A repository that is not ours does not hold it.
        files = probe_files() if self.scenario.server.kind == "remote" else None
        self._request(PROBE, configuration, files)
        self.watch.settle(PROBE)
        try:
            self.driver.aim(target_of(self.server, PROBE, configuration))
            yield PROBE
        finally:
            self._aim(None)
            self.watch.settle(model)
            self.control.unload(PROBE)

    def measure(self, trial: PlannedTrial, index: int) -> Measured:
        """Measure one trial. What breaks ends up in its record, not in an exception.

        Raises:
            UsageError: a request takes longer than the window even when nothing else is sent.
        """
        started = datetime.now(UTC)
        seen: dict[str, Any] = {}
        samples = np.empty(0, dtype=SAMPLE_DTYPE)
        self.asked = None
        try:
            self._configure(trial.point.configuration)
            samples = self._load(trial, seen)
        except EnvironmentFailedError as error:
            caught_ns = time.monotonic_ns()
            refused = self.refused.get(trial.point.configuration.key)
            seen["failure"] = refused or self.confirmed_failure() or str(error)
            seen["failure_ns"] = self.watch.noticed_ns or caught_ns
            self.current = None  # a server that came back has another configuration
            self.stub_died = isinstance(error, DeadStubError)
            if "level_start_ns" in seen:
                samples = self._samples_up_to(caught_ns, seen["level_start_ns"])
        record = TrialRecord(
            index=index,
            pass_index=trial.pass_index,
            role=trial.role,
            point=trial.point,
            started_utc=started,
            requested=self.requested,
            effective=self.effective,
            differences=differences(self.requested, self.effective) if self.effective else (),
            notes=self._silences(seen.get("level_start_ns")),
            **seen,
        )
        self.telemetry.refresh()  # usage at the window's end is interpolated between two readings
        self.metrics.refresh()
        return Measured(record, samples, self.telemetry.drain(), self.metrics.drain())

    def _samples_up_to(self, end_ns: int, start_ns: int) -> npt.NDArray[np.void]:
        """What was recorded of a trial that broke, where the generator can still tell."""
        if self.driver.failure() is None:
            with suppress(EnvironmentFailedError):
                return self.driver.collect(start_ns, end_ns)[0]
        return np.empty(0, dtype=SAMPLE_DTYPE)

    def _silences(self, since_ns: int | None) -> tuple[str, ...]:
        """What is to be known of a server that was silent for a while since the level began."""
        silences = self.watch.silences(since_ns) if since_ns else []
        return tuple(f"the server did not answer for {seconds:.1f} s" for seconds in silences)

    def _configure(self, configuration: ServerConfiguration) -> None:
        """Set the running server to ``configuration``, without load, and read back the effective one."""
        if configuration == self.current:
            return
        model = self.models[configuration.model]
        self._aim(None)
        if not self.server.offers.model_control:
            self._find(configuration, model)
            return
        wanted = with_server_configuration(model.configuration, configuration)
        self.requested = with_features(wanted, self.scenario.server)
        if configuration.key in self.refused:
            raise EnvironmentFailedError(self.refused[configuration.key])
        self.asked = configuration.key
        try:
            if self.stub_died:
                self.watch.release()
                self.control.unload(model.name)
            self._request(model.name, self.requested)
            self.stub_died = False
            self.effective = self.control.effective_configuration(model.name)
        except ConnectionBrokenError:
            raise  # it says nothing of the configuration
        except EnvironmentFailedError as error:
            # A stub may hang once, where many start on a busy machine; but a second configuration is not tried twice.
            if self.confirmed_failure() is None or (self.hung and self.refused):
                self.refused[configuration.key] = str(error)
            raise
        self._aim(configuration)
        # On GPUs there are as many on each, and their number follows from the server's own devices.
        on_cpu = configuration.kind == "cpu"
        self.watch.settle(model.name, instances=configuration.instances if on_cpu else None)
        self.telemetry.refresh()  # other stubs now

    def _request(
        self, name: str, configuration: dict[str, Any], files: dict[str, bytes] | None = None
    ) -> None:
        """Have the server load a model, and note where it hangs."""
        timeout_s = self.scenario.server.ready_timeout_s
        self.watch.release()
        try:
            self.control.load(name, configuration, files=files, deadline_s=timeout_s)
        except NoAnswerError as error:
            if self.scenario.server.kind != "remote":  # nobody here can start that anew
                self.hung = str(error)
            raise

    def _find(self, configuration: ServerConfiguration, model: ExportedModel) -> None:
        """Take the configuration that is there, where none can be set."""
        self.requested = {}
        if self.server.offers.configuration:
            self.requested = model.configuration  # as it was when the run was planned
            self.effective = self.control.effective_configuration(model.name)
        self._aim(configuration)

    def _aim(self, configuration: ServerConfiguration | None) -> None:
        """Point the load at a model; ``None`` pauses it, once everything in flight is answered."""
        self.current, self.latest = configuration, None
        if configuration is None:
            self.effective = None
            self.driver.pause(timeout_s=self.scenario.measure.request_timeout_s)
            return
        model = self.models[configuration.model]
        self.driver.aim(model_target(self.server, model))

    def _load(self, trial: PlannedTrial, seen: dict[str, Any]) -> npt.NDArray[np.void]:
        """Send the trial's load, note the window in ``seen``, and return the samples."""
        measure, point = self.scenario.measure, trial.point
        model = point.configuration.model
        self._alone.require_fit(point)
        self.driver.level(point.workload, point.load, request_timeout_s=measure.request_timeout_s)
        seen["level_start_ns"] = time.monotonic_ns()
        seen["warmup_reason"] = settle(self.driver, measure, self._check)
        first = self._snapshot(model)
        if first and self.latest:
            require_growth(self.latest, first)
        start_ns = seen["window_start_ns"] = first.edge_ns if first else time.monotonic_ns()
        effective = self.effective
        # Of a server that runs here, the watch knows more and sooner.
        unseen = (
            None
            if self.server.processes()
            else Unseen(self.control, self.driver, model, effective, first)
        )

        def check() -> None:
            self._check()
            if unseen:
                unseen.check()

        let_pass(
            *(self.driver, point.load, measure.window_s, start_ns, check),
            lambda shape_ns: seen.update(shape_start_ns=shape_ns),
        )
        last = self._snapshot(model)
        end_ns = seen["window_end_ns"] = last.edge_ns if last else time.monotonic_ns()
        if first and last:
            seen["statistics"] = difference(first, last)
        samples, seen["generator"] = self.driver.collect(start_ns, end_ns)
        if unseen:
            unseen.check(at_once=True)
        self.latest = last
        return samples

    def _snapshot(self, model: str) -> Snapshot | None:
        """The server's statistics now; ``None`` of a server that keeps none."""
        return self.control.snapshot(model) if self.server.offers.statistics else None

    def _check(self) -> None:
        if (failure := self.failure()) is not None:
            raise EnvironmentFailedError(failure)


@contextmanager
def open_bench(
    scenario: Scenario,
    models: Mapping[str, ExportedModel],
    logs: Path,
    run_id: str,
    refused: dict[str, str],
    configurations: Iterable[ServerConfiguration] = (),
) -> Iterator[Bench]:
    """Bring the server, the load generator and the telemetry up, and down again in order.

    Raises:
        EnvironmentFailedError: one of them does not come up, or the server lacks a GPU that one of
            ``configurations`` is to run on.
        UsageError: the server has no backend for a model.
    """
    with ExitStack() as stack:
        folders = {name: model.folder for name, model in models.items()}
        folders[PROBE] = probe_folder()
        if remote := scenario.server.kind == "remote":
            folders = {}  # it has a repository of its own
        repository = stack.enter_context(staged(folders, run_id))
        server = stack.enter_context(serving(scenario.server, repository, logs=logs, run_id=run_id))
        require_gpus(server, configurations)
        if not remote:
            models = {name: as_served(model, server) for name, model in models.items()}
        control = control_of(server.endpoints, server.log)
        stack.callback(control.close)
        if isinstance(control, Control):
            record(control, scenario.server)
        target = model_target(server, next(iter(models.values())))
        measure = scenario.measure
        sending = Driver(
            target,
            logs=logs,
            sender=measure.sender,
            seed=measure.seed,
            cpus=scenario.generator.cpus,
        )
        driver = stack.enter_context(sending)
        telemetry = stack.enter_context(Telemetry())
        telemetry.start(lambda: [*server.processes(), ("generator", driver.pid)])
        metrics = stack.enter_context(MetricLog())
        metrics.start(sources_of(server, models))
        watch = stack.enter_context(Watch(server))
        yield Bench(scenario, models, server, watch, control, driver, telemetry, metrics, refused)
