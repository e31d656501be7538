"""Real runs of earlier versions, kept as they were written: they must be readable for ever.

A folder a schema version below ``tests/data/runs``, measured on a real Triton, with the ``summary.csv`` of
its day. What is counted and pooled must come out the same; intervals and verdicts may improve.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from harness.analysis import analyse
from harness.archive import SCHEMA_VERSION, open_run

RUNS = Path(__file__).parents[1] / "data" / "runs"
LASTING = [
    "requests", "errors", "wrong_answers", "passes", "window_s", "throughput", "latency_ms_mean",
    "latency_ms_p50", "latency_ms_p90", "latency_ms_p95", "latency_ms_p99", "client_gap_ms", "queue_ms",
    "compute_input_ms", "compute_infer_ms", "compute_output_ms", "executed_batch_mean",
    "client_cpu_cores", "server_cpu_cores", "max_queue_delay_us", "concurrency",
]  # fmt: skip


def test_every_schema_has_a_run_to_remember_it_by() -> None:
    assert {path.name for path in RUNS.iterdir()} == {
        f"schema-{version}" for version in range(1, SCHEMA_VERSION + 1)
    }


@pytest.mark.parametrize("folder", sorted(RUNS.iterdir()), ids=lambda path: path.name)
def test_an_old_run_says_what_it_said(folder: Path) -> None:
    analysis = analyse(open_run(folder))
    before = pd.read_csv(folder / "summary.csv").set_index("point")
    now = analysis.points.set_index("point")
    assert list(now.index) == list(before.index)
    for column in LASTING:
        then = before[column].astype(float).to_numpy()
        assert now[column].astype(float).to_numpy() == pytest.approx(then, nan_ok=True), column


@pytest.mark.parametrize("folder", sorted(RUNS.iterdir()), ids=lambda path: path.name)
def test_the_books_of_a_real_run_balance(folder: Path) -> None:
    for point in analyse(open_run(folder)).results:
        users = point.point.load.concurrency
        assert point.concurrency_seen == pytest.approx(users, rel=0.03)
        assert point.server_requests is not None
        allowed = max(0.02 * point.server_requests, 2 * users)
        assert abs(point.requests - point.server_requests) <= allowed
