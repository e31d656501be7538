"""A fit in a process of its own, so that its peak memory is its own: settings in, figures out.

Run as ``python -m harness.models.measured_fit``, with :class:`~harness.models.settings.Settings` as JSON
on standard input; the figures come as JSON on standard output.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from harness.errors import EnvironmentFailedError
from harness.models.dataset import clean, split
from harness.models.evaluation import evaluate
from harness.models.framework import load_keras
from harness.models.settings import Settings
from harness.models.sources import read_source
from harness.models.training import probabilities, train_network
from harness.point import Frozen

__all__ = ["MeasuredFit", "measure_fit"]

LIMIT_S = 3600.0


class MeasuredFit(Frozen):
    """What a fit took and gave.

    Attributes:
        epoch_s: wall-clock time of an epoch, the median without the first, which builds the graph.
        epoch_s_low, epoch_s_high: the fastest and the slowest of these epochs.
        peak_bytes: peak resident memory of the whole process.
        fit_bytes: what of it the fit added to TensorFlow, the data and the interpreter.
        accuracy: on the test part, after all epochs.
        cross_entropy: of the training part, by epoch, in nats.
    """

    epoch_s: float
    epoch_s_low: float
    epoch_s_high: float
    peak_bytes: int
    fit_bytes: int
    accuracy: float
    cross_entropy: tuple[float, ...]


def measure_fit(settings: Settings) -> MeasuredFit:
    """Train in a fresh process and measure it; at least two epochs are needed.

    Raises:
        EnvironmentFailedError: the process failed, such as for want of memory, or took too long.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness.models.measured_fit"],
            input=settings.model_dump_json(),
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailedError(
            f"the fit did not end within {LIMIT_S:g} s",
            where=f"batch size {settings.batch_size}",
            remedy="Give fewer --epochs or fewer examples",
        ) from error
    if done.returncode:
        tail = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise EnvironmentFailedError(
            f"the fit ended with status {done.returncode} ({tail[0]})",
            where=f"batch size {settings.batch_size}",
            remedy="Free memory, or leave this batch size out",
        )
    return MeasuredFit.model_validate_json(done.stdout)


def _fit_here(settings: Settings) -> MeasuredFit:
    raw = read_source(settings.data, full_scale=settings.full_scale, resize=settings.resize)
    parts = split(clean(raw), settings.seed)
    load_keras()
    before = _memory_bytes("VmRSS")
    trained = train_network(settings, parts.train)
    peak = _memory_bytes("VmHWM")
    answers = probabilities(trained.model, parts.test.x)
    seconds = [row["seconds"] for row in trained.history][1:]
    return MeasuredFit(
        epoch_s=statistics.median(seconds),
        epoch_s_low=min(seconds),
        epoch_s_high=max(seconds),
        peak_bytes=peak,
        fit_bytes=peak - before,
        accuracy=evaluate(answers, parts.test.y, parts.test.classes).accuracy,
        cross_entropy=tuple(row["cross_entropy"] for row in trained.history),
    )


def _memory_bytes(name: str) -> int:
    """A line of ``/proc/self/status``; unlike ``getrusage``, nothing of the parent is in it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise EnvironmentFailedError(f"the kernel does not tell {name}", where="/proc/self/status")


if __name__ == "__main__":
    sys.stdout.write(_fit_here(Settings.model_validate_json(sys.stdin.read())).model_dump_json())
