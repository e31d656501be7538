"""The same scenario twice on the same machine gives the same answer, or says that it cannot tell.

On a noisy machine these may fail, and then they should: nobody could rely on a run there either. No bound
is widened; what failed says how far the sentinel trials of both runs show that the machine itself drifted.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.analysis import analyse
from harness.archive import open_run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from harness.analysis.results import Analysis
    from harness.statistics.intervals import Interval

    Harness = Callable[..., subprocess.CompletedProcess[str]]

log = logging.getLogger(__name__)  # --log-cli-level=INFO shows the figures
QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
SEVEN_SECONDS = """\
model: cnn
sweep:
  instances: [1, 2]
  concurrency: [1, 8]
measure: {window: 1s, passes: 7}
slo: {p99: 50ms, errors: 0}
"""


def twice(harness: Harness, scenario: Path, models: Path, reports: Path) -> list[Analysis]:
    runs = []
    for _ in range(2):
        done = harness(
            "run", scenario, "--models", models, "--output", reports, code=(0, 4), timeout_s=600
        )
        runs.append(analyse(open_run(Path(done.stdout.splitlines()[-1]).parent)))
    return runs


def compared(first: Analysis, second: Analysis) -> tuple[str, float, float]:
    """In words; the share of throughput intervals that overlap; their median full width over the estimate."""
    pairs: list[tuple[Interval, Interval]] = [
        (a.throughput, b.throughput) for a, b in zip(first.results, second.results, strict=True)
    ]
    overlap = float(np.mean([a.overlaps(b) for a, b in pairs]))
    width = float(np.median([2 * each.half_width_relative for pair in pairs for each in pair]))
    apart = float(np.median([abs(a.estimate / b.estimate - 1) for a, b in pairs]))
    drift = [analysis.drift.throughput for analysis in (first, second) if analysis.drift]
    said = (
        f"{overlap:.0%} of {len(pairs)} intervals overlap, median full width {width:.1%}, estimates"
        f" {apart:.1%} apart in the median; sentinels {json.dumps(drift)};"
        f" {'; '.join((*first.headlines(), *second.headlines()))}"
    )
    log.info(said)
    return said, overlap, width


def assert_same_advice(first: Analysis, second: Analysis) -> None:
    """The same configuration wins each workload, or neither run claims that its winner beats the other's."""
    for one, other in zip(first.workloads, second.workloads, strict=True):
        assert one.label == other.label
        if one.winner is None or other.winner is None:
            assert one.winner is other.winner is None, one.label
            continue
        winners = one.winner.configuration, other.winner.configuration
        tied = [{ranked.configuration for ranked in result.tie_set} for result in (one, other)]
        same = winners[0] == winners[1] or all(set(winners) <= each for each in tied)
        assert same, f"{one.label}: {one.reason} / {other.reason}"


@pytest.mark.long
@pytest.mark.timeout(1300)
def test_the_quickstart_twice(harness: Harness, triton_models: Path, tmp_path: Path) -> None:
    first, second = twice(harness, QUICKSTART, triton_models, tmp_path)
    assert len(first.results) == 36
    said, overlap, width = compared(first, second)
    assert overlap >= 0.90, said
    assert width <= 0.30, said
    assert_same_advice(first, second)


@pytest.mark.long
def test_seven_seconds_a_point_twice(harness: Harness, triton_models: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "seven.yaml"
    scenario.write_text(SEVEN_SECONDS)
    first, second = twice(harness, scenario, triton_models, tmp_path)
    said, overlap, width = compared(first, second)
    assert overlap >= 0.90, said
    assert width <= 0.12, said
    assert_same_advice(first, second)
