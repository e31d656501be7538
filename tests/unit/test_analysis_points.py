"""Points of a simulated run against its truth, and against the raw samples counted another way."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.analysis import analyse
from harness.records import Outcome
from tests.queueing import Machine
from tests.runs import with_outcome, with_record, write_run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis
    from harness.archive import RunDirectory
    from tests.runs import Measured

SCENARIO = """
model: cnn
sweep:
  instances: [1, 2]
  dynamic_batching: [null, {max_queue_delay_us: 0}]
  batch_size: [1, 8]
  concurrency: [1, 16]
measure: {window: 1s, passes: 4, seed: 7}
slo: {p99: 50ms, errors: 0}
"""
EXACT = Machine(noise=0.0, drift=0.0)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_run(tmp_path_factory.mktemp("exact"), SCENARIO, machine=EXACT)


@pytest.fixture(scope="module")
def analysis(exact: RunDirectory) -> Analysis:
    return analyse(exact)


def result(analysis: Analysis, key: str) -> PointResult:
    return next(result for result in analysis.results if result.key == key)


def test_sentinels_are_in_no_point(analysis: Analysis) -> None:
    assert len(analysis.results) == 2 * 2 * 2 * 2
    sentinels = {t.index for t in analysis.trial_records if t.role == "sentinel"}
    assert len(sentinels) == 3
    for point in analysis.results:
        assert point.passes == 4
        assert not sentinels & set(point.trials)


@pytest.mark.parametrize(
    ("key", "batch", "instances"),
    [
        ("cnn-i1-nodyn-http-b1-c16", 1, 1),
        ("cnn-i2-nodyn-http-b1-c16", 1, 2),
        ("cnn-i1-nodyn-http-b8-c16", 8, 1),
        ("cnn-i2-nodyn-http-b8-c16", 8, 2),
    ],
)
def test_a_saturated_server_gives_what_its_executions_allow(
    analysis: Analysis, key: str, batch: int, instances: int
) -> None:
    point = result(analysis, key)
    execution_ms = EXACT.execution_ms(batch)
    assert point.throughput.estimate == pytest.approx(
        instances * batch / execution_ms * 1e3, rel=5e-3
    )
    expected_ms = 16 * execution_ms / instances - EXACT.gap_ms
    assert point.latency_mean_ms.estimate == pytest.approx(expected_ms, rel=5e-3)
    assert point.throughput.contains(point.throughput.estimate)
    # the server and its stub work whenever an instance does
    assert point.server_cpu_cores == pytest.approx(instances, rel=0.01)


def test_the_breakdown_says_where_the_time_went(analysis: Analysis) -> None:
    point = result(analysis, "cnn-i1-nodyn-http-b1-c16")
    parts = point.breakdown
    assert parts is not None
    execution_ms = EXACT.execution_ms(1)
    assert parts.client_and_network_ms == pytest.approx(EXACT.network_ms, rel=0.02)
    assert parts.compute_infer_ms == pytest.approx(0.9 * execution_ms, rel=1e-3)
    assert parts.compute_input_ms == pytest.approx(0.04 * execution_ms, rel=1e-3)
    assert parts.compute_output_ms == pytest.approx(0.06 * execution_ms, rel=1e-3)
    total = sum(getattr(parts, part.name) for part in fields(parts))
    assert total == pytest.approx(point.latency_mean_ms.estimate)
    assert parts.queue_ms == pytest.approx(14.7 * execution_ms, rel=0.05)


def test_what_the_cache_answered_computed_nothing(tmp_path: Path) -> None:
    """Triton counts hits in ``success`` and ``queue`` only; of ten requests, nine were hits."""
    text = SCENARIO.replace("[1, 16]", "[1]").replace("[1, 8]", "[1]")

    def cached(measured: Measured) -> Measured:
        seen = measured.record.statistics
        assert seen is not None
        misses = seen.success_count // 10
        compute = {
            f"compute_{part}_{unit}": getattr(seen, f"compute_{part}_{unit}")
            * misses
            // seen.success_count
            for part in ("input", "infer", "output")
            for unit in ("count", "ns")
        }
        compute_ns = sum(compute[f"compute_{part}_ns"] for part in ("input", "infer", "output"))
        update = compute | {
            "success_ns": seen.queue_ns + compute_ns + 20_000 * seen.success_count,
            "cache_hit_count": seen.success_count - misses,
            "cache_miss_count": misses,
        }
        return with_record(measured, statistics=seen.model_copy(update=update))

    for point in analyse(write_run(tmp_path, text, machine=EXACT, alter=cached)).results:
        parts = point.breakdown
        assert parts is not None
        assert parts.compute_infer_ms == pytest.approx(0.09 * EXACT.execution_ms(1), rel=0.02)
        assert parts.server_other_ms == pytest.approx(0.02)
        total = sum(getattr(parts, part.name) for part in fields(parts))
        assert total == pytest.approx(point.latency_mean_ms.estimate)


def test_executed_batches_are_the_servers(analysis: Analysis) -> None:
    alone = result(analysis, "cnn-i1-nodyn-http-b8-c16")
    assert set(alone.executed_batches) == {8}
    assert alone.executed_batch_mean == 8
    together = result(analysis, "cnn-i1-d0-http-b1-c16")
    assert together.executed_batch_mean is not None
    assert 6 < together.executed_batch_mean < 16
    counted = sum(size * count for size, count in together.executed_batches.items())
    assert together.executed_batch_mean == pytest.approx(
        counted / sum(together.executed_batches.values())
    )


def test_a_point_is_its_raw_samples(exact: RunDirectory, analysis: Analysis) -> None:
    for point in analysis.results:
        latencies, ended, window_s = [], 0, 0.0
        for trial in exact.trials():
            if trial.point != point.point or trial.role == "sentinel":
                continue
            samples = exact.samples(trial.index).to_pandas()
            inside = samples[
                (samples.done_ns >= trial.window_start_ns) & (samples.done_ns < trial.window_end_ns)
            ]
            latencies.append((inside.done_ns - inside.sent_ns) / 1e6)
            ended += len(inside)
            window_s += trial.window_s
        pooled = np.concatenate(latencies)
        assert point.requests == ended
        assert point.window_s == pytest.approx(window_s)
        size = point.point.workload.batch_size
        assert point.throughput.estimate == pytest.approx(ended * size / window_s)
        assert point.latency_mean_ms.estimate == pytest.approx(pooled.mean())
        for q, percentile in point.percentiles.items():
            assert percentile.interval_ms is not None
            expected = np.quantile(pooled, q, method="inverted_cdf")
            assert percentile.interval_ms.estimate == pytest.approx(expected)
            assert percentile.interval_ms.low <= expected <= percentile.interval_ms.high


def test_requests_times_cycle_is_the_concurrency(analysis: Analysis) -> None:
    for point in analysis.results:
        assert point.client_gap_ms == pytest.approx(EXACT.gap_ms, rel=1e-3)
        rate = point.requests / point.window_s
        users = rate * (point.latency_mean_ms.estimate + point.client_gap_ms) / 1e3
        assert users == pytest.approx(point.concurrency_seen)
        assert users == pytest.approx(point.point.load.concurrency, rel=0.03)


def test_failures_are_counted_by_kind_and_stay_out_of_the_latency(tmp_path: Path) -> None:
    def slow_failures(measured: Measured) -> Measured:
        failing = with_outcome(measured, Outcome.TIMEOUT, 0.1)
        failing = with_outcome(failing, Outcome.WRONG_ANSWER, 0.02)
        failing.samples["sent_ns"][failing.samples["outcome"] == Outcome.TIMEOUT] -= 900_000_000
        return failing

    healthy = analyse(write_run(tmp_path, SCENARIO, machine=EXACT))
    broken = analyse(write_run(tmp_path, SCENARIO, machine=EXACT, alter=slow_failures))
    for before, after in zip(healthy.results, broken.results, strict=True):
        assert after.requests == before.requests
        assert after.wrong_answers == pytest.approx(0.02 * after.requests, abs=8)
        assert after.errors == pytest.approx(0.08 * after.requests, abs=12)
        assert set(after.failures) == {Outcome.TIMEOUT, Outcome.WRONG_ANSWER}
        assert after.throughput.estimate == pytest.approx(
            0.9 * before.throughput.estimate, rel=0.02
        )
        assert after.latency_mean_ms.estimate == pytest.approx(
            before.latency_mean_ms.estimate, rel=0.03
        )
        for q, percentile in after.percentiles.items():
            other = before.percentiles[q].interval_ms
            if percentile.interval_ms and other:
                assert percentile.interval_ms.estimate == pytest.approx(other.estimate, rel=0.05)


def test_a_percentile_without_enough_samples_says_how_many_it_needs(tmp_path: Path) -> None:
    slow = Machine(fixed_ms=20.0)
    text = SCENARIO.replace("[1, 16]", "[1]").replace("[1, 8]", "[1]")
    for point in analyse(write_run(tmp_path, text, machine=slow)).results:
        assert 150 < point.requests < 459
        assert point.percentiles[0.95].interval_ms is not None
        assert point.percentiles[0.99].interval_ms is None
        assert point.percentiles[0.99].text == "needs 459"
        assert point.p99_ms is None


def test_a_broken_trial_counts_for_nothing(tmp_path: Path) -> None:
    def break_pass_two(measured: Measured) -> Measured:
        if measured.record.pass_index != 2:
            return measured
        return with_record(measured, failure="the server ended", window_end_ns=None)

    for point in analyse(write_run(tmp_path, SCENARIO, alter=break_pass_two)).results:
        assert point.passes == 3
        assert len(point.trials) == 4
        assert point.window_s == pytest.approx(3.0)
        assert 2 not in point.throughput_of_pass


def test_an_open_load_has_no_client_gap(tmp_path: Path) -> None:
    text = SCENARIO.replace("concurrency: [1, 16]", "rate: [400]").replace("[1, 8]", "[1]")
    for point in analyse(write_run(tmp_path, text)).results:
        assert point.client_gap_ms is None
        assert point.concurrency_seen is None
        assert point.throughput.estimate == pytest.approx(400, rel=0.1)
