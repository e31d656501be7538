"""From a scenario to the ordered trials: randomised blocks, seeded.

Every pass visits all server configurations in random order and, within each, its workloads and load
levels in random order, so that the machine's drift lands in the interval and not in the ranking
(randomised complete blocks: Fisher, *The Design of Experiments*, 1935, chapter IV).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby, product
from typing import TYPE_CHECKING, Literal

from harness.errors import UsageError
from harness.point import Point, ServerConfiguration, Workload
from harness.statistics.quantiles import quantile_interval
from harness.statistics.stopping import on_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from harness.scenario import Measure, Scenario

__all__ = [
    "MOST_POINTS",
    "PlannedTrial",
    "Seen",
    "estimate_s",
    "plan_pass",
    "schedule",
    "sentinel",
    "sweep_points",
]

MOST_POINTS = 10_000

# What an estimate assumes before anything was measured, in seconds (measured on a 2-core machine).
TRIAL_OVERHEAD_S = 0.15
RECONFIGURATION_S = 1.2
CALIBRATION_S = 4.0  # of each workload
ROUND_S = 5.0  # the server comes and goes, and the report is written


@dataclass(frozen=True)
class PlannedTrial:
    """One point in one pass, not measured yet."""

    pass_index: int
    point: Point
    role: Literal["point", "sentinel"] = "point"


@dataclass
class Seen:
    """What adaptive passes are decided on: each pass's figures, by point key.

    Attributes:
        throughput: inferences per second, one a pass.
        latency_ms: of the right answers, one array a pass.
        elapsed_s: since the run's start.
    """

    throughput: dict[str, list[float]] = field(default_factory=dict)
    latency_ms: dict[str, list[npt.NDArray[np.float64]]] = field(default_factory=dict)
    elapsed_s: float = 0.0


def sweep_points(
    scenario: Scenario,
    max_batch_sizes: Mapping[str, int],
    fixed: Mapping[str, ServerConfiguration] | None = None,
    where: str | None = None,
) -> tuple[Point, ...]:
    """Every combination of the scenario's axes.

    Args:
        scenario: the scenario.
        max_batch_sizes: the exported ``max_batch_size`` of each model; 0 where it does not batch.
        fixed: the only configuration that a model can have, of those that cannot be configured.
        where: the scenario's file, for errors; its name where left out.

    Raises:
        UsageError: more than :data:`MOST_POINTS` points, a client batch that a model cannot take, or a
            model's limit below 0.
    """
    sweep = scenario.sweep
    where = f"{where}: sweep" if where else f"scenario {scenario.name}, sweep"
    loads = sweep.loads
    for key, count in Counter(load.key for load in loads).items():
        if count > 1:
            raise UsageError(
                f"{count} of its loads are the same: {key}",
                where=where,
                remedy="Keep one of them",
            )
    placements = [
        (kind, gpus)
        for kind in sweep.kind
        for gpus in ((sweep.gpus if kind == "gpu" else None) or ((),))
    ]
    axes: tuple[Sequence[object], ...] = (
        tuple(scenario.variants),
        sweep.instances,
        placements,
        sweep.dynamic_batching,
        sweep.max_batch_size or (None,),
        sweep.protocol,
        sweep.batch_size,
        loads,
    )
    count = math.prod(len(axis) for axis in axes)
    if count > MOST_POINTS:
        raise UsageError(
            f"{count:,} points are more than the {MOST_POINTS:,} that one run may have",
            where=where,
            remedy="Shorten an axis or split the sweep into several scenarios",
        )
    points = []
    for model in scenario.variants:
        for limit in sweep.max_batch_size or (max_batch_sizes[model],):
            _check_batches(scenario, model, limit, where)
            configurations = [
                ServerConfiguration(
                    model=model,
                    instances=instances,
                    kind=kind,
                    gpus=gpus,
                    dynamic_batching=batching,
                    max_batch_size=limit,
                )
                for instances, (kind, gpus), batching in product(
                    sweep.instances, placements, sweep.dynamic_batching
                )
            ]
            if fixed and model in fixed:
                configurations = [fixed[model]]
            workloads = [
                Workload(protocol=protocol, batch_size=size)
                for protocol, size in product(sweep.protocol, sweep.batch_size)
            ]
            points += [
                Point(configuration=configuration, workload=workload, load=load)
                for configuration, workload, load in product(configurations, workloads, loads)
            ]
    return tuple(points)


def _check_batches(scenario: Scenario, model: str, limit: int, where: str) -> None:
    if limit < 0:  # what a file or a server says; a scenario's own is checked where it is read
        raise UsageError(
            f"max_batch_size is {limit} in its configuration, which is below 0",
            where=f"model {model}",
            remedy="Export the model again with harness export, or give sweep.max_batch_size",
        )
    largest = max(scenario.sweep.batch_size)
    if largest > max(limit, 1):
        smaller = f"Use batches of at most {max(limit, 1)}"
        export = "export the model with a larger --max-batch-size"
        raise UsageError(
            f"batch_size {largest} is above the max_batch_size {limit} of the model {model}",
            where=f"{where}.batch_size",
            remedy=f"{smaller}, raise sweep.max_batch_size, or {export}"
            if scenario.sweep.max_batch_size
            else f"{smaller}, or {export}",
        )
    if limit == 0 and any(scenario.sweep.dynamic_batching):
        raise UsageError(
            f"the model {model} has no batch dimension, so it cannot be batched dynamically",
            where=f"{where}.dynamic_batching",
            remedy="Leave dynamic_batching out for this model",
        )


def plan_pass(points: Iterable[Point], pass_index: int, seed: int) -> list[PlannedTrial]:
    """One visit of ``points``: a block for each server configuration, blocks and levels shuffled.

    The same seed gives the same order; every pass has another one.
    """
    shuffler = random.Random(f"{seed}:{pass_index}")  # noqa: S311 - an order, not a secret
    ordered = sorted(points, key=lambda point: point.key)
    blocks = [
        list(block)
        for _, block in groupby(
            sorted(ordered, key=lambda point: point.configuration.key),
            key=lambda point: point.configuration.key,
        )
    ]
    shuffler.shuffle(blocks)
    for block in blocks:
        shuffler.shuffle(block)
    return [PlannedTrial(pass_index, point) for block in blocks for point in block]


def sentinel(points: Sequence[Point]) -> Point | None:
    """The point that is measured again and again to show drift: the middle load of the first workload.

    A load with a length of its own, such as a soak, would take too long for that; ``None`` without others.
    """
    first = points[0]
    alike = [
        point
        for point in points
        if point.configuration == first.configuration
        and point.workload == first.workload
        and point.load.duration_s is None
    ]
    return alike[len(alike) // 2] if alike else None


def schedule(
    points: Sequence[Point], measure: Measure, seen: Seen | None = None
) -> Iterator[PlannedTrial]:
    """The trials of a run, in their order.

    Args:
        points: everything that is measured.
        measure: how; its sentinel trials come first, in the middle and last.
        seen: what was measured so far, filled in by the caller between two trials; with it, points short
            of ``measure.target`` are visited again, up to ``measure.most_passes`` times and until
            ``measure.max_time_s`` is over.
    """
    watch = sentinel(points) if measure.sentinels and measure.passes > 1 else None
    if watch:
        yield PlannedTrial(0, watch, role="sentinel")
    for pass_index in range(measure.passes):
        if watch and pass_index == (measure.passes + 1) // 2:
            yield PlannedTrial(pass_index, watch, role="sentinel")
        yield from plan_pass(points, pass_index, measure.seed)
    if seen is not None and measure.target:
        yield from _further_visits(points, measure, seen)
    if watch:
        yield PlannedTrial(measure.passes, watch, role="sentinel")


def _further_visits(
    points: Sequence[Point], measure: Measure, seen: Seen
) -> Iterator[PlannedTrial]:
    """More passes over the points that are short of their target, as long as they may be made."""
    most_s = math.inf if measure.max_time_s is None else measure.max_time_s
    for pass_index in range(measure.passes, measure.most_passes):
        short = [point for point in points if not _is_measured_enough(point, measure, seen)]
        for trial in plan_pass(short, pass_index, measure.seed):
            if seen.elapsed_s >= most_s:
                return
            yield trial


def _is_measured_enough(point: Point, measure: Measure, seen: Seen) -> bool:
    """Whether the intervals of all quantities with a target have met it."""
    met = {
        "throughput": lambda target: on_target(seen.throughput.get(point.key, []), target),
        "p99": lambda target: on_target(
            seen.latency_ms.get(point.key, []), target, lambda some: quantile_interval(some, 0.99)
        ),
    }
    return all(met[quantity](target) for quantity, target in measure.target.items())


def estimate_s(trials: Iterable[PlannedTrial], measure: Measure) -> float:
    """How long a run of ``trials`` will take in seconds, as far as one can say before measuring."""
    planned = list(trials)
    blocks = sum(1 for _ in groupby(planned, key=lambda trial: trial.point.configuration.key))
    windows_s = sum(trial.point.load.duration_s or measure.window_s for trial in planned)
    each_s = measure.warmup_min_s + TRIAL_OVERHEAD_S
    around_s = ROUND_S + CALIBRATION_S * len({trial.point.workload for trial in planned})
    return around_s + windows_s + len(planned) * each_s + blocks * RECONFIGURATION_S
