from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis import analyse
from harness.analysis.metrics import WindowMetrics, increase, pool_metrics, window_metrics
from harness.records import METRIC_COLUMNS
from harness.report.summary import summary
from tests.runs import Measured, write_run

if TYPE_CHECKING:
    from pathlib import Path

S = 1_000_000_000


def table(*rows: tuple[float, str, str, str, float]) -> pa.Table:
    columns = dict(zip(METRIC_COLUMNS, zip(*rows, strict=True), strict=True))
    columns["time_ns"] = [round(moment * S) for moment in columns["time_ns"]]
    return pa.table(columns)


def gauge(
    name: str, labels: str, *values: float, step: float = 0.25
) -> list[tuple[float, str, str, str, float]]:
    return [(place * step, "triton", name, labels, value) for place, value in enumerate(values)]


PENDING = "nv_inference_pending_request_count"
CNN, OTHER = '{"model": "cnn", "version": "1"}', '{"model": "other", "version": "1"}'
CNN_2 = '{"model": "cnn", "version": "2"}'


def test_pending_requests_are_those_of_the_model_within_the_window() -> None:
    read = table(*gauge(PENDING, CNN, 90, 2, 4, 9, 90), *gauge(PENDING, OTHER, *[500] * 5))
    seen = window_metrics(read, "cnn", round(0.2 * S), round(0.8 * S), 10)
    assert (seen.pending_mean, seen.pending_max) == (5, 9)


def test_versions_of_a_model_wait_together() -> None:
    read = table(*gauge(PENDING, CNN, 1, 2, 3), *gauge(PENDING, CNN_2, 10, 20, 30))
    seen = window_metrics(read, "cnn", 0, S, 10)
    assert (seen.pending_mean, seen.pending_max) == (22, 33)


def test_what_was_not_read_is_not_known() -> None:
    for nothing in (None, table(*gauge("nv_other", CNN, 1, 2))):
        seen = window_metrics(nothing, "cnn", 0, S, 10)
        assert seen == WindowMetrics(1.0, 10)
        assert seen.gpu_joules_per_1000 is None
    outside = window_metrics(table(*gauge(PENDING, CNN, 1, 2)), "cnn", 5 * S, 6 * S, 10)
    assert outside.pending_mean is None


def test_a_zero_that_was_read_is_known() -> None:
    read = table(*gauge(PENDING, CNN, 0, 0, 0), *gauge("nv_energy_consumption", "{}", 5, 5, 5))
    seen = window_metrics(read, "cnn", 0, round(0.5 * S), 10)
    assert (seen.pending_mean, seen.pending_max, seen.gpu_joules_per_1000) == (0, 0, 0)


def test_joules_for_a_thousand_inferences() -> None:
    one, two = '{"gpu_uuid": "GPU-1"}', '{"gpu_uuid": "GPU-2"}'
    read = table(
        *gauge("nv_energy_consumption", one, 100, 110, 120, 130, 140),
        *gauge("nv_energy_consumption", two, 7, 9, 11, 13, 15),
        *gauge("rapl_energy_joules", '{"zone": "0"}', 0, 5, 10, 15, 20),
        *gauge("nv_gpu_utilization", one, 0.5, 0.5, 0.7, 0.7, 0.5),
        *gauge("nv_gpu_utilization", two, 0.1, 0.1, 0.1, 0.1, 0.1),
        *gauge("nv_gpu_memory_used_bytes", one, 1, 2, 3, 2, 1),
        *gauge("nv_gpu_memory_used_bytes", two, 10, 20, 10, 10, 10),
    )
    seen = window_metrics(read, "cnn", round(0.25 * S), round(0.75 * S), 500)
    assert seen.gpu_joules == pytest.approx(20 + 4)
    assert seen.gpu_joules_per_1000 == pytest.approx(48)
    assert seen.cpu_joules_per_1000 == pytest.approx(20)
    assert seen.gpu_utilization == pytest.approx((1.9 / 3 + 0.1) / 2)
    assert seen.gpu_memory_bytes == 3 + 20


def test_the_finer_counter_of_the_same_gpus_wins() -> None:
    read = table(
        *gauge("nv_energy_consumption", "{}", 0, 0, 50, 50, 100),
        *gauge("nvml_energy_joules", "{}", 1000, 1020, 1040, 1060, 1080),
    )
    seen = window_metrics(read, "cnn", 0, S, 1000)
    assert seen.gpu_joules == pytest.approx(80)


def test_without_right_answers_there_is_no_price_for_one() -> None:
    read = table(*gauge("nv_energy_consumption", "{}", 0, 10, 20))
    assert window_metrics(read, "cnn", 0, round(0.5 * S), 0).gpu_joules_per_1000 is None


def test_a_container_counts_where_processes_are_not_seen() -> None:
    read = table(
        *gauge("container_cpu_seconds", "{}", 10, 10.4, 10.8),
        *gauge("container_memory_bytes", "{}", 100, 300, 200),
    )
    seen = window_metrics(read, "cnn", 0, round(0.5 * S), 10)
    assert seen.container_cores == pytest.approx(1.6)
    assert seen.container_memory_bytes == 300


def test_a_counter_is_interpolated_at_the_edges() -> None:
    moments = np.array([0, S, 2 * S])
    assert increase(moments, np.array([0.0, 10.0, 40.0]), S // 2, 3 * S // 2) == pytest.approx(20)


def test_a_counter_that_began_again_goes_on() -> None:
    moments = np.array([0, S, 2 * S, 3 * S])
    assert increase(moments, np.array([90.0, 100.0, 4.0, 9.0]), 0, 3 * S) == pytest.approx(19)


def test_readings_over_a_part_stand_for_all_and_over_little_for_nothing() -> None:
    moments, values = np.array([0, S]), np.array([0.0, 30.0])
    assert increase(moments, values, 0, 3 * S // 2) == pytest.approx(45)
    assert increase(moments, values, 0, 3 * S) is None
    assert increase(moments[:1], values[:1], 0, S) is None
    assert increase(moments, values, 5 * S, 6 * S) is None


@given(
    st.lists(st.floats(0, 1e6), min_size=3, max_size=30),
    st.lists(st.integers(1, S), min_size=3, max_size=30),
)
def test_windows_side_by_side_add_up(steps: list[float], gaps: list[int]) -> None:
    size = min(len(steps), len(gaps))
    moments = np.array([*accumulate(gaps[:size])])
    values = np.array([*accumulate(steps[:size])])
    first, last = int(moments[0]), int(moments[-1])
    middle = (first + last) // 2
    if not first < middle < last:
        return
    whole = increase(moments, values, first, last)
    parts = [increase(moments, values, first, middle), increase(moments, values, middle, last)]
    assert sum(part or 0 for part in parts) == pytest.approx(whole, rel=1e-6, abs=1e-3)
    assert whole == pytest.approx(values[-1] - values[0], rel=1e-6, abs=1e-3)


def test_a_point_puts_its_windows_together() -> None:
    quiet = WindowMetrics(1.0, 1000, pending_mean=2, pending_max=4, gpu_joules=10)
    busy = WindowMetrics(3.0, 3000, pending_mean=6, pending_max=9, gpu_joules=50)
    both = pool_metrics([quiet, busy])
    assert (both.pending_mean, both.pending_max) == (5, 9)
    assert both.gpu_joules_per_1000 == 15
    assert both.cpu_joules is None
    partly = pool_metrics([quiet, WindowMetrics(1.0, 10)])
    assert (partly.pending_mean, partly.pending_max) == (2, 4)
    assert partly.gpu_joules is None
    assert pool_metrics([]).pending_mean is None


ONE_POINT = """
model: cnn
sweep: {concurrency: 4}
measure: {window: 1s, passes: 3}
"""


def test_metrics_reach_every_table_of_the_report(tmp_path: Path) -> None:
    def read(measured: Measured) -> Measured:
        origin, end = measured.record.level_start_ns, measured.record.window_end_ns
        assert origin is not None
        assert end is not None
        rows = []
        for step in range(20):
            moment = origin + step * 100_000_000
            rows += [
                (moment, "triton", PENDING, CNN, float(step % 3)),
                (moment, "triton", "nv_energy_consumption", "{}", 100.0 * step),
            ]
        return replace(measured, metrics=rows)

    run = write_run(tmp_path, ONE_POINT, alter=read)
    analysis = analyse(run)
    (result,) = analysis.results
    assert result.metrics.pending_max == 2
    joules = 3 * 1000 / (result.throughput.estimate * 3) * 1e3
    assert result.metrics.gpu_joules_per_1000 == pytest.approx(joules)
    (row,) = analysis.points.to_dict("records")
    assert row["gpu_joules_per_1000"] == pytest.approx(joules)
    assert row["pending_max"] == 2
    assert np.isnan(row["cpu_joules_per_1000"])
    assert analysis.trials["pending_mean"].notna().all()
    (point,) = summary(analysis)["points"]
    assert point["pending_requests"]["max"] == 2
    assert point["joules_per_1000_inferences"] == {"gpu": pytest.approx(joules), "cpu": None}


def test_an_old_run_without_the_table_is_read(tmp_path: Path) -> None:
    run = write_run(tmp_path, ONE_POINT)
    for file in run.path.glob("trials/*/metrics.parquet"):
        file.unlink()
    (result,) = analyse(run).results
    assert result.metrics.pending_mean is None
    assert result.valid
