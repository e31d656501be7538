"""From a scenario to a run directory: the one place that orchestrates.

Nothing here judges a number: that is for those who read the run.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import __version__
from harness.attachment import attach
from harness.bench import open_bench
from harness.calibration import calibrate
from harness.errors import EnvironmentFailedError, HarnessError, InterruptedRunError
from harness.host import git_revision, host_facts, package_versions, require_cores
from harness.interrupt import heed
from harness.records import Outcome, RunRecord
from harness.repository.configuration import with_server_configuration
from harness.repository.exported import ExportedModel, open_model
from harness.repository.probes import PROBE
from harness.servers.remote.former import kept
from harness.statistics.counts import quantile_is_supported
from harness.statistics.quantiles import quantile
from harness.sweep import Seen, estimate_s, schedule, sweep_points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from harness.archive import RunDirectory
    from harness.attachment import Attachment
    from harness.bench import Bench, Measured
    from harness.point import Point
    from harness.records import TrialRecord
    from harness.scenario import Scenario
    from harness.sweep import PlannedTrial

__all__ = ["Plan", "Progress", "as_it_was", "make_plan", "run_experiment"]

ATTEMPTS = 2  # a trial that broke is repeated once
MOST_PROVED = 32  # users of an open loop that calibration proves to be in flight


@dataclass(frozen=True)
class Plan:
    """A scenario with all that is needed to start it.

    Attributes:
        scenario: the scenario as resolved.
        text: the file as the user wrote it.
        models: the exported models by name.
        points: everything that is measured.
        trials: the trials of the passes that are certain.
        estimate_s: how long these will take, in seconds.
        attachment: of a server that somebody else runs, what is there; ``None`` of one that is ours.
    """

    scenario: Scenario
    text: str
    models: Mapping[str, ExportedModel]
    points: tuple[Point, ...]
    trials: tuple[PlannedTrial, ...]
    estimate_s: float
    attachment: Attachment | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before any number, whole sentences."""
        return self.attachment.notes if self.attachment else ()


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        done, planned: trials.
        elapsed_s, remaining_s: seconds; the rest is judged by the pace so far.
        trial: the trial just sealed.
        throughput: its inferences per second, right answers only.
        p99_ms: its 99th percentile of latency; NaN where its right answers are too few for one.
    """

    done: int
    planned: int
    elapsed_s: float
    remaining_s: float
    trial: TrialRecord
    throughput: float
    p99_ms: float


def make_plan(scenario: Scenario, text: str, models_root: Path, where: str | None = None) -> Plan:
    """Look up the models and unroll the sweep; nothing is started, and a remote server only asked.

    ``where`` is the scenario's file, for errors.

    Raises:
        EnvironmentFailedError: a remote server cannot be reached.
        UsageError: a model that was not exported, a sweep that does not fit it, or cores that are not here.
    """
    require_cores(scenario.generator.cpus, "generator.cpus")
    if scenario.server.kind == "embedded":
        require_cores(scenario.server.cpus, "server.cpus")
    attachment = attach(scenario, models_root) if scenario.server.kind == "remote" else None
    if attachment:
        scenario, models = attachment.scenario, attachment.models
    else:
        models = {
            name: open_model(models_root, name, precision)
            for name, precision in scenario.variants.items()
        }
    fixed = attachment.fixed if attachment else {}
    limits = {name: model.configuration.get("max_batch_size", 0) for name, model in models.items()}
    points = sweep_points(scenario, limits, fixed, where)
    for configuration in {
        point.configuration.key: point.configuration for point in points
    }.values():
        if configuration.model not in fixed:
            with_server_configuration(models[configuration.model].configuration, configuration)
    trials = tuple(schedule(points, scenario.measure))
    seconds = estimate_s(trials, scenario.measure)
    return Plan(scenario, text, models, points, trials, seconds, attachment)


def run_experiment(
    plan: Plan,
    run: RunDirectory,
    *,
    command: tuple[str, ...] = (),
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Measure everything into ``run``, an empty run directory.

    Raises:
        InterruptedRunError: the user stopped it; what was measured is in ``run``.
        EnvironmentFailedError: the server, every configuration, or the load generator failed.
        UsageError: a window is shorter than one request; what was measured before is in ``run``.
    """
    record = _new_record(plan, command)
    run.write_record(record)
    end: dict[str, Any] = {"status": "failed", "status_reason": "ended unexpectedly"}
    try:
        with as_it_was(plan) as same:
            _measure_all(same, run, record.run_id, on_progress, end)
        end |= {"status": "complete", "status_reason": ""}
    except KeyboardInterrupt as interrupt:
        end |= {"status": "interrupted", "status_reason": "stopped by the user"}
        raise InterruptedRunError("interrupted", where=str(run.path)) from interrupt
    except HarnessError as error:
        end |= {"status_reason": str(error)}
        raise
    finally:
        run.write_record(record.model_copy(update={**end, "finished_utc": datetime.now(UTC)}))


@contextmanager
def as_it_was(plan: Plan) -> Iterator[Plan]:
    """Leave a server that is not ours as it was, whatever happens meanwhile.

    Yields:
        The plan, with every model as the server has it.
    """
    found = plan.attachment
    if found is None or not found.survey.offers.model_control:
        yield plan
        return
    names, timeout_s = list(plan.models), plan.scenario.server.ready_timeout_s
    with kept(found.survey.endpoints, names, [PROBE], deadline_s=timeout_s) as former:
        models = {
            name: replace(model, configuration=former[name].configuration or model.configuration)
            for name, model in plan.models.items()
        }
        yield replace(plan, models=models)


def _new_record(plan: Plan, command: tuple[str, ...]) -> RunRecord:
    return RunRecord(
        harness_version=__version__,
        run_id=secrets.token_hex(6),
        name=plan.scenario.name,
        created_utc=datetime.now(UTC),
        scenario=plan.scenario.model_dump(mode="json"),
        scenario_text=plan.text,
        seed=plan.scenario.measure.seed,
        command=command,
        planned_trials=len(plan.trials),
        host=host_facts(),
        packages=package_versions(),
        model={name: model.record for name, model in plan.models.items()},
        git_revision=git_revision(Path(__file__).parent),
        notes=plan.notes,
    )


def _measure_all(
    plan: Plan,
    run: RunDirectory,
    run_id: str,
    on_progress: Callable[[Progress], None],
    found: dict[str, Any],
) -> None:
    """Walk the schedule; a trial that broke is repeated once, on a new bench where the old one broke.

    Adds to ``found`` what belongs into the run's record, however it ends: the server, and what the load
    generator can do on it.
    """
    seen = Seen()
    refused: dict[str, str] = {}
    configurations = {point.configuration.key: point.configuration for point in plan.points}
    trials = schedule(plan.points, plan.scenario.measure, seen)
    pending = next(trials, None)
    started, sealed, done, attempt = time.monotonic(), 0, 0, 1
    while pending is not None:
        with open_bench(
            plan.scenario, plan.models, run.logs, run_id, refused, configurations.values()
        ) as bench:
            found |= {"server": bench.server.describe()}
            if "calibration" not in found:
                found |= _calibrate(plan, bench, again=attempt < ATTEMPTS)
                attempt = 1 if "calibration" in found else attempt + 1
            while "calibration" in found and pending is not None:
                sealed += 1
                measured = bench.measure(pending, sealed)
                run.seal_trial(
                    measured.record, measured.samples, measured.telemetry, measured.metrics
                )
                broke = measured.record.failure is not None
                key = pending.point.configuration.key
                if broke and attempt < ATTEMPTS and key not in refused:
                    attempt += 1
                else:
                    if broke and bench.asked == key and measured.record.effective is None:
                        refused.setdefault(key, measured.record.failure or "")
                    attempt, done = 1, done + 1
                    progress = _progress(measured, done, len(plan.trials), started)
                    _remember(seen, measured, progress)
                    on_progress(progress)
                    pending = next(trials, None)
                if refused.keys() >= configurations.keys():
                    raise EnvironmentFailedError(
                        f"no configuration can be served: {next(iter(refused.values()))}"
                    )
                if bench.failure() is not None:
                    break


def _calibrate(plan: Plan, bench: Bench, *, again: bool) -> dict[str, Any]:
    """Measure the instrument itself, where the server takes the probe.

    Returns:
        What is found; nothing where the bench broke and it may be tried ``again`` on a new one.
    """
    offers = bench.server.offers
    if not (offers.model_control and offers.statistics):
        return {"calibration": None}  # a note of the plan says what it does not offer
    workloads = list(dict.fromkeys(point.workload for point in plan.points))
    users = plan.scenario.sweep.most_users(open_loop=MOST_PROVED)
    try:
        calibration, notes = calibrate(bench, list(plan.models), workloads, users)
    except EnvironmentFailedError as error:
        heed()  # an interrupt within an order to the generator arrives here as the generator's death
        if (failure := bench.confirmed_failure()) is not None:
            if again:
                return {}
            raise EnvironmentFailedError(failure) from error
        calibration, notes = None, (f"The instrument was not calibrated: {error}",)
    return {"calibration": calibration, "notes": (*plan.notes, *notes)}


def _progress(measured: Measured, done: int, planned: int, started: float) -> Progress:
    """Judge a trial just well enough to show it."""
    record = measured.record
    right = _right_answers(measured)
    throughput = float(right["batch"].sum()) / record.window_s if record.window_s else float("nan")
    supported = quantile_is_supported(0.99, len(right))
    p99_ms = quantile(_latency_ms(right), 0.99) if supported else float("nan")
    elapsed_s = time.monotonic() - started
    remaining_s = elapsed_s / done * max(planned - done, 0)
    return Progress(done, max(planned, done), elapsed_s, remaining_s, record, throughput, p99_ms)


def _remember(seen: Seen, measured: Measured, progress: Progress) -> None:
    """Note what further passes are decided on."""
    seen.elapsed_s = progress.elapsed_s
    if measured.record.failure is None and measured.record.role == "point":
        key = measured.record.point.key
        seen.throughput.setdefault(key, []).append(progress.throughput)
        seen.latency_ms.setdefault(key, []).append(_latency_ms(_right_answers(measured)))


def _right_answers(measured: Measured) -> npt.NDArray[np.void]:
    """The samples with a right answer within the window; none where the trial broke."""
    record, samples = measured.record, measured.samples
    if record.failure is not None or not record.window_s:
        return samples[:0]
    done_ns = samples["done_ns"]
    inside = (done_ns >= record.window_start_ns) & (done_ns < record.window_end_ns)
    right: npt.NDArray[np.void] = samples[inside & (samples["outcome"] == Outcome.OK)]
    return right


def _latency_ms(samples: npt.NDArray[np.void]) -> npt.NDArray[np.float64]:
    """Response times, shape (samples,)."""
    return np.asarray(samples["done_ns"] - samples["scheduled_ns"], dtype=np.float64) / 1e6
