"""What the instrument itself can do: its ceiling, its own latency, and proof of its concurrency.

Measured on the same server as the run, with probes that have the tensors of the model under test: a
*null* model that answers at once, and one that sleeps an exact time. Little's law over the client's own
figures holds by construction, also when the client itself makes requests wait, so that N users really
are N requests in flight is proved from the server's side: the time that the server spent on requests in
the window, over the window, is the mean number it had in hand.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import EnvironmentFailedError
from harness.point import ClosedLoad
from harness.records import Calibration, CalibrationRow, Outcome
from harness.servers.control import difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.bench import Bench
    from harness.point import Workload

__all__ = ["calibrate"]

WINDOW_S = 0.6
WARMUP_S = 0.3
CEILING_USERS = 16
SLEEP_US = 5_000
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class _Figures:
    """One window against a probe. ``in_flight`` and ``server_ms`` are the server's, the rest the client's."""

    rate_rps: float
    latency_ms_mean: float
    latency_ms_p50: float
    latency_ms_sd: float
    client_cpu_ms: float
    server_ms: float
    in_flight: float


def _window(bench: Bench, name: str, workload: Workload, users: int) -> _Figures:
    """One short window of ``users`` users against the probe ``name``."""
    # Users of the sleeping probe queue for it; its statistics are steady after one turn of all of them.
    turn_s = users * SLEEP_US / 1e6
    timeout_s = max(TIMEOUT_S, 3 * turn_s)
    bench.driver.level(workload, ClosedLoad(concurrency=users), request_timeout_s=timeout_s)
    time.sleep(max(WARMUP_S, 2 * turn_s))
    first = bench.control.snapshot(name)
    time.sleep(max(WINDOW_S, 3 * turn_s))
    last = bench.control.snapshot(name)
    samples, health = bench.driver.collect(first.edge_ns, last.edge_ns)
    seen = difference(first, last)
    window_s = (last.edge_ns - first.edge_ns) / 1e9
    inside = (samples["done_ns"] >= first.edge_ns) & (samples["done_ns"] < last.edge_ns)
    right = samples[inside & (samples["outcome"] == Outcome.OK)]
    if not len(right) or not seen.success_count:
        raise EnvironmentFailedError(f"the probe {name} gave no right answer to {workload.label}")
    if health.cpu_s is None:
        raise EnvironmentFailedError("the load generator's CPU time was not read in a whole window")
    latency_ms = (right["done_ns"] - right["sent_ns"]) / 1e6
    return _Figures(
        rate_rps=len(right) / window_s,
        latency_ms_mean=float(latency_ms.mean()),
        latency_ms_p50=float(np.median(latency_ms)),
        latency_ms_sd=float(latency_ms.std()),
        client_cpu_ms=health.cpu_s / len(right) * 1e3,
        server_ms=seen.success_ns / seen.success_count / 1e6,
        in_flight=seen.success_ns / (last.edge_ns - first.edge_ns),
    )


def calibrate(
    bench: Bench, models: Sequence[str], workloads: Sequence[Workload], users: int
) -> tuple[Calibration, tuple[str, ...]]:
    """Measure the load generator against probes in the guise of ``models``.

    Returns:
        What was found, and a note for each set of models in whose guise no probe could be measured.

    Args:
        bench: server, control and generator, with the probes staged.
        models: whose tensors are sent; those of models that have the same are sent once.
        workloads: protocols and client batch sizes to calibrate.
        users: the largest concurrency of the run, which is proved.

    Raises:
        EnvironmentFailedError: no probe at all can be measured, or the server or the generator broke.
    """
    alike: dict[str, list[str]] = {}
    for model in models:
        alike.setdefault(_tensors(bench.models[model].configuration), []).append(model)
    rows: list[CalibrationRow] = []
    notes: list[str] = []
    for same in alike.values():
        try:
            rows += _rows(bench, tuple(same), workloads, users)
        except EnvironmentFailedError as error:
            if len(alike) == 1 or bench.confirmed_failure() is not None:
                raise
            notes.append(
                f"The instrument was not calibrated with the tensors of {', '.join(same)}: {error}"
            )
    if not rows:
        raise EnvironmentFailedError(notes[0])
    resolution_ns = round(time.get_clock_info("monotonic").resolution * 1e9)
    return Calibration(clock_resolution_ns=resolution_ns, rows=tuple(rows)), tuple(notes)


def _tensors(configuration: Mapping[str, Any]) -> str:
    """What decides on the bytes of requests and answers, in a form that can be compared."""
    batched = configuration.get("max_batch_size", 0) > 0
    told = [batched, configuration["input"], configuration["output"]]
    return json.dumps(told, sort_keys=True)


def _rows(
    bench: Bench, models: tuple[str, ...], workloads: Sequence[Workload], users: int
) -> list[CalibrationRow]:
    """A row a workload, for models that have the same tensors."""
    null, asleep, crowd, ceiling = {}, {}, {}, {}
    with bench.probe(models[0], sleep_us=0) as name:
        for workload in workloads:
            ceiling[workload] = _window(bench, name, workload, CEILING_USERS)
            null[workload] = _window(bench, name, workload, 1)
    with bench.probe(models[0], sleep_us=SLEEP_US) as name:
        for workload in workloads:
            asleep[workload] = _window(bench, name, workload, 1)
            crowd[workload] = _window(bench, name, workload, users)
    return [
        CalibrationRow(
            models=models,
            protocol=workload.protocol,
            batch_size=workload.batch_size,
            ceiling_users=CEILING_USERS,
            ceiling_rps=ceiling[workload].rate_rps,
            client_cpu_ms=ceiling[workload].client_cpu_ms,
            null_ms_p50=null[workload].latency_ms_p50,
            own_ms=null[workload].latency_ms_mean - null[workload].server_ms,
            sleep_ms=SLEEP_US / 1e3,
            sleep_excess_ms=asleep[workload].latency_ms_mean - asleep[workload].server_ms,
            sleep_sd_ms=asleep[workload].latency_ms_sd,
            users=users,
            in_flight=crowd[workload].in_flight,
        )
        for workload in workloads
    ]
