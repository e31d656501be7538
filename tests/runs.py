"""Run directories with a known truth, written through :mod:`harness.archive` from a simulated queue.

:func:`write_run` makes what a real run leaves on the disk: samples, statistics, telemetry and records of
closed and open loads, on a machine whose speed differs from pass to pass. Nothing here waits or sleeps: a
run of 24 points takes about two seconds to make. Faults are put in by ``alter``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.archive import create_run
from harness.records import (
    SAMPLE_DTYPE,
    GeneratorHealth,
    Outcome,
    RunRecord,
    StatisticsWindow,
    TrialRecord,
)
from harness.scenario import parse_scenario
from harness.sweep import PlannedTrial, schedule, sweep_points
from tests.queueing import Machine, Queue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from harness.archive import RunDirectory

EPOCH_NS = 5_000_000_000_000
MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)

QUICK = """
model: cnn
sweep:
  instances: [1, 2]
  dynamic_batching: [null, {max_queue_delay_us: 0}]
  batch_size: [1, 8]
  concurrency: [1, 4, 16]
measure: {window: 1s, passes: 4, seed: 7}
slo: {p99: 50ms, errors: 0}
"""


@dataclass(frozen=True)
class Measured:
    """What one trial left, before it is sealed. ``alter`` may return another one."""

    record: TrialRecord
    samples: npt.NDArray[np.void]
    telemetry: list[tuple[int, str, int, float, int]]
    metrics: list[tuple[int, str, str, str, float]] = field(default_factory=list)


def measure(
    planned: PlannedTrial,
    index: int,
    machine: Machine,
    window_s: float,
    rng: np.random.Generator,
    speed: float = 1.0,
    warmup_s: float = 0.25,
) -> Measured:
    """Simulate one trial: warm-up, window, and the start of a drain."""
    origin = EPOCH_NS + index * 10_000_000_000
    point = planned.point
    size = point.workload.batch_size
    window_s = point.load.duration_s or window_s
    queue = Queue(point, machine, rng, speed)
    queue.shape_start_s = warmup_s
    requests = queue.run(warmup_s + window_s + 0.05)
    samples = np.zeros(len(requests), SAMPLE_DTYPE)
    for name, moments in (
        ("scheduled_ns", [request.scheduled for request in requests]),
        ("sent_ns", [request.sent for request in requests]),
        ("done_ns", [request.finished + machine.network_ms / 2e3 for request in requests]),
    ):
        samples[name] = origin + np.round(np.array(moments) * 1e9).astype(np.int64)
    samples["user"] = [request.user for request in requests]
    samples["batch"] = size
    samples["compared"] = np.arange(len(samples)) % 16 == 0
    start, end = warmup_s, warmup_s + window_s
    inside = [request for request in requests if start <= request.finished < end]
    batches: Counter[int] = Counter()
    for request in inside:
        batches[request.executed] += 1
    executions = {
        inferences: round(count * size / inferences) for inferences, count in batches.items()
    }
    queue_s = sum(request.started - request.sent - machine.network_ms / 2e3 for request in inside)
    infer_s = sum(request.finished - request.started for request in inside)
    parts = {
        name: {f"{name}_count": len(inside), f"{name}_ns": int(seconds * 1e9)}
        for name, seconds in (
            ("success", queue_s + infer_s),
            ("queue", queue_s),
            ("compute_input", 0.04 * infer_s),
            ("compute_infer", 0.9 * infer_s),
            ("compute_output", 0.06 * infer_s),
        )
    }
    busy_s = sum((request.finished - request.started) / request.answers for request in inside)
    client_s = 1e-4 * len(inside)
    configuration = point.configuration
    config: dict[str, Any] = {
        "name": configuration.model,
        "backend": "python",
        "max_batch_size": configuration.max_batch_size,
        "instance_group": [{"count": configuration.instances, "kind": "KIND_CPU"}],
    }
    if configuration.dynamic_batching is not None:
        delay = configuration.dynamic_batching.max_queue_delay_us
        config["dynamic_batching"] = {"max_queue_delay_microseconds": str(delay)}
    record = TrialRecord(
        index=index,
        pass_index=planned.pass_index,
        role=planned.role,
        point=point,
        started_utc=MOMENT + timedelta(seconds=1.5 * index),
        requested=config,
        effective=config,
        level_start_ns=origin,
        window_start_ns=origin + round(start * 1e9),
        window_end_ns=origin + round(end * 1e9),
        shape_start_ns=origin + round(start * 1e9) if point.load.kind == "shaped" else None,
        warmup_reason="simulated: steady from the start",
        statistics=StatisticsWindow(
            start_ns=origin + round(start * 1e9),
            end_ns=origin + round(end * 1e9),
            edge_error_ms=0.8,
            inference_count=len(inside) * size,
            execution_count=sum(executions.values()),
            fail_count=0,
            fail_ns=0,
            executed_batches=executions,
            **{key: value for part in parts.values() for key, value in part.items()},
        ),
        generator=GeneratorHealth(
            loop_lag_p99_ms=0.4,
            loop_lag_max_ms=1.2,
            cpu_s=client_s,
            window_s=window_s,
            max_in_flight=_most_in_flight(samples, origin + round(start * 1e9)),
        ),
    )
    telemetry = _telemetry(origin, end + 0.1, busy_s / window_s, client_s / window_s)
    return Measured(record, samples, telemetry)


def _most_in_flight(samples: npt.NDArray[np.void], start_ns: int) -> int:
    """The most requests in flight at once from the window's start on."""
    sent, done = np.sort(samples["sent_ns"]), np.sort(samples["done_ns"])
    begun = np.arange(1, len(sent) + 1)
    flying = begun - np.searchsorted(done, sent, side="right")
    return int(flying[sent >= start_ns].max(initial=0))


def _telemetry(
    origin: int, until_s: float, server_cores: float, client_cores: float
) -> list[tuple[int, str, int, float, int]]:
    """Readings every 100 ms: 10 % of the server's work in the server, the rest in its stub."""
    rows = []
    for step in range(int(until_s * 10) + 1):
        moment, elapsed = origin + step * 100_000_000, step * 0.1
        rows += [
            (moment, "server", 100, 5 + 0.1 * server_cores * elapsed, 200_000_000),
            (moment, "stub", 101, 2 + 0.9 * server_cores * elapsed, 150_000_000),
            (moment, "generator", 102, 1 + client_cores * elapsed, 120_000_000),
            (moment, "host", 0, 50 + (server_cores + client_cores) * elapsed, 2_000_000_000),
        ]
    return rows


def write_run(
    root: Path,
    text: str = QUICK,
    *,
    name: str = "quick",
    machine: Machine | None = None,
    seed: int = 1,
    alter: Callable[[Measured], Measured] | None = None,
) -> RunDirectory:
    """Simulate the scenario in ``text`` and write its run below ``root``.

    Args:
        root: where the run directory is made.
        text: the scenario's YAML.
        name: the scenario's name.
        machine: the truth; :class:`Machine`'s defaults if left out.
        seed: seeds the simulation (the order of trials comes from the scenario's own seed).
        alter: called with every trial before it is sealed, to put a fault in.
    """
    machine = machine or Machine()
    scenario = parse_scenario(text, name=name, where=name)
    run = create_run(root, name, MOMENT)
    rng = np.random.default_rng(seed)
    points = sweep_points(scenario, dict.fromkeys(scenario.variants, 64))
    trials = list(schedule(points, scenario.measure))
    speeds = np.exp(rng.normal(0, machine.drift, scenario.measure.passes + 1))
    record = RunRecord(
        harness_version="0.1.0",
        run_id=f"simulated-{seed}",
        name=name,
        created_utc=MOMENT,
        scenario=scenario.model_dump(mode="json"),
        scenario_text=text,
        seed=scenario.measure.seed,
        command=("harness", "run", f"scenarios/{name}.yaml"),
        planned_trials=len(trials),
        host={"cpu_model": "Simulated CPU", "cores": machine.cores, "memory_bytes": 8 * 2**30,
              "platform": "Linux", "hostname": "simulated"},
        packages={"locust": "2.47.0", "tritonclient": "2.73.0"},
        server={"kind": "embedded", "version": "2.51.0", "extensions": ["statistics"]},
        model={"name": "cnn", "backend": "python"},
    )  # fmt: skip
    run.write_record(record)
    for index, planned in enumerate(trials):
        speed = float(speeds[planned.pass_index])
        measured = measure(planned, index, machine, scenario.measure.window_s, rng, speed)
        if alter is not None:
            measured = alter(measured)
        run.seal_trial(measured.record, measured.samples, measured.telemetry, measured.metrics)
    finished = MOMENT + timedelta(seconds=1.5 * len(trials))
    run.write_record(record.model_copy(update={"status": "complete", "finished_utc": finished}))
    return run


def with_outcome(measured: Measured, outcome: Outcome, share: float) -> Measured:
    """Turn a share of a trial's answers, evenly spread, into ``outcome``."""
    samples = measured.samples.copy()
    if share:
        samples["outcome"][:: max(1, round(1 / share))] = outcome
    return replace(measured, samples=samples)


def with_record(measured: Measured, **changes: Any) -> Measured:
    """The same trial with fields of its record changed."""
    return replace(measured, record=measured.record.model_copy(update=changes))
