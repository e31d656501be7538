"""What a running Triton says of itself over HTTP: statistics of a window, and the effective configuration.

For load that is sent by hand, where nobody else holds a connection to the server.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from harness.errors import EnvironmentFailedError
from harness.load.metadata import ask
from harness.point import DynamicBatching, ServerConfiguration
from harness.records import StatisticsWindow

__all__ = ["Snapshot", "configuration_from", "difference", "snapshot"]

# Field of StatisticsWindow: where it stands in Triton's statistics (its statistics extension).
DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
ATTEMPTS = 3
QUICK_NS = 10_000_000  # a snapshot that took longer is repeated


@dataclass(frozen=True)
class Snapshot:
    """Cumulative statistics of one model.

    Attributes:
        before_ns: CLOCK_MONOTONIC before the call.
        after_ns: the same after it.
        counts: by the fields of :class:`harness.archive.StatisticsWindow`.
        batches: executions by executed batch size.
    """

    before_ns: int
    after_ns: int
    counts: dict[str, int]
    batches: dict[int, int]

    @property
    def edge_ns(self) -> int:
        """The moment that it stands for."""
        return (self.before_ns + self.after_ns) // 2


def snapshot(address: str, model: str) -> Snapshot:
    """Take the statistics of a model, summed over its versions: the quickest of up to three calls.

    Raises:
        EnvironmentFailedError: the server does not tell them.
    """
    taken = [_snapshot(address, model)]
    while len(taken) < ATTEMPTS and taken[-1].after_ns - taken[-1].before_ns > QUICK_NS:
        taken.append(_snapshot(address, model))
    return min(taken, key=lambda each: each.after_ns - each.before_ns)


def _snapshot(address: str, model: str) -> Snapshot:
    before_ns = time.monotonic_ns()
    answer = ask(address, f"models/{model}/stats")
    after_ns = time.monotonic_ns()
    counts: dict[str, int] = {}
    batches: dict[int, int] = {}
    try:
        for version in answer["model_stats"]:
            for name in ("inference_count", "execution_count"):
                counts[name] = counts.get(name, 0) + int(version[name])
            parts = version["inference_stats"]
            for name in DURATIONS:
                for unit in ("count", "ns"):
                    field = f"{name}_{unit}"
                    counts[field] = counts.get(field, 0) + int(parts[name][unit])
            for name in ("cache_hit", "cache_miss"):
                field = f"{name}_count"
                counts[field] = counts.get(field, 0) + int(parts.get(name, {}).get("count", 0))
            for batch in version.get("batch_stats", ()):
                size = int(batch["batch_size"])
                batches[size] = batches.get(size, 0) + int(batch["compute_infer"]["count"])
    except (KeyError, TypeError, ValueError) as error:
        raise EnvironmentFailedError(
            f"the server's statistics are not understood ({error!r})", where=address
        ) from error
    return Snapshot(before_ns, after_ns, counts, batches)


def difference(first: Snapshot, last: Snapshot) -> StatisticsWindow:
    """The statistics of the window between two snapshots.

    Raises:
        EnvironmentFailedError: a count went down, since the model was loaded anew in between.
    """
    counts = {name: last.counts[name] - before for name, before in first.counts.items()}
    batches = {size: now - first.batches.get(size, 0) for size, now in last.batches.items()}
    if min([*counts.values(), *batches.values()]) < 0:
        raise EnvironmentFailedError(
            "the server's statistics went down: the model was loaded anew within the window"
        )
    longest_ns = max(each.after_ns - each.before_ns for each in (first, last))
    return StatisticsWindow(
        start_ns=first.edge_ns,
        end_ns=last.edge_ns,
        edge_error_ms=longest_ns / 2e6,
        executed_batches={size: count for size, count in sorted(batches.items()) if count},
        **counts,
    )


def configuration_from(model: str, effective: dict[str, Any]) -> ServerConfiguration:
    """The words of a sweep for an effective configuration, as ``/v2/models/M/config`` gives it.

    Raises:
        EnvironmentFailedError: it is not understood.
    """
    try:
        groups = effective.get("instance_group") or [{"count": 1, "kind": "KIND_CPU"}]
        gpus = sorted({int(gpu) for group in groups for gpu in group.get("gpus") or ()})
        on_gpu = any(group.get("kind") == "KIND_GPU" for group in groups)
        batching = effective.get("dynamic_batching")
        return ServerConfiguration(
            model=model,
            instances=sum(int(group.get("count", 1)) for group in groups),
            kind="gpu" if on_gpu else "cpu",
            gpus=tuple(gpus) if on_gpu else (),
            max_batch_size=int(effective.get("max_batch_size", 0)),
            dynamic_batching=None if batching is None else _batching(effective, batching),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise EnvironmentFailedError(
            f"the configuration of {model} is not understood ({error})"
        ) from error


def _batching(effective: dict[str, Any], batching: dict[str, Any]) -> DynamicBatching:
    preferred = tuple(int(size) for size in batching.get("preferred_batch_size") or ())
    # What Triton fills in where nothing was preferred.
    left_out = preferred == (int(effective.get("max_batch_size", 0)),)
    return DynamicBatching(
        max_queue_delay_us=int(batching.get("max_queue_delay_microseconds", 0)),
        preferred_batch_sizes=() if left_out else preferred,
        preserve_ordering=bool(batching.get("preserve_ordering", False)),
    )
