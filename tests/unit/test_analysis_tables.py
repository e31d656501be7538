from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from harness.analysis import analyse
from harness.analysis.tables import COLUMNS
from tests.queueing import Machine
from tests.runs import with_record, write_run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.analysis.results import Analysis
    from tests.runs import Measured

BOTH_LOADS = """
model: cnn
sweep:
  dynamic_batching: [null, {max_queue_delay_us: 250}]
  concurrency: [4]
  rate: [300]
  max_batch_size: [16]
measure: {window: 1s, passes: 3}
"""
PROMISED = [
    "point",
    "model",
    "backend",
    "instances",
    "max_batch_size",
    "dynamic_batching",
    "max_queue_delay_us",
    "protocol",
    "batch_size",
    "load",
    "concurrency",
    "offered_rate",
    "passes",
    "window_s",
    "requests",
    "errors",
    "wrong_answers",
    "throughput",
    "throughput_low",
    "throughput_high",
    "latency_ms_mean",
    "latency_ms_p50",
    "latency_ms_p90",
    "latency_ms_p95",
    "latency_ms_p99",
    "latency_ms_p99_low",
    "latency_ms_p99_high",
    "client_gap_ms",
    "queue_ms",
    "compute_input_ms",
    "compute_infer_ms",
    "compute_output_ms",
    "executed_batch_mean",
    "client_cpu_cores",
    "server_cpu_cores",
    "verdict",
    "reasons",
]


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(write_run(tmp_path_factory.mktemp("run"), BOTH_LOADS))


def test_the_promised_columns_come_first_in_their_order(analysis: Analysis) -> None:
    assert list(COLUMNS) == PROMISED
    assert list(analysis.points.columns[: len(PROMISED)]) == PROMISED
    assert analysis.points.columns.is_unique


def test_a_row_says_what_was_measured(analysis: Analysis) -> None:
    rows = analysis.points.set_index("point").loc["cnn-i1-d250-m16-http-b1-c4"]
    assert rows["backend"] == "python"
    assert rows["dynamic_batching"] == "on"
    assert rows["max_queue_delay_us"] == 250
    assert rows["max_batch_size"] == 16
    assert rows["load"] == "closed"
    assert rows["concurrency"] == 4
    assert rows["passes"] == 3
    assert rows["window_s"] == pytest.approx(3.0)
    assert rows["latency_ms_p50"] <= rows["latency_ms_p90"] <= rows["latency_ms_p95"]
    assert rows["latency_ms_p99_low"] <= rows["latency_ms_p99"] <= rows["latency_ms_p99_high"]
    assert rows["throughput_low"] < rows["throughput"] < rows["throughput_high"]
    assert rows["verdict"] == "valid"
    assert rows["reasons"] == ""


def test_a_cell_is_missing_where_its_column_does_not_apply(analysis: Analysis) -> None:
    table = analysis.points.set_index("point")
    assert table["max_queue_delay_us"].isna().tolist() == [True, True, False, False]
    closed, open_ = table[table["load"] == "closed"], table[table["load"] == "open"]
    assert closed["offered_rate"].isna().all()
    assert closed["client_gap_ms"].notna().all()
    assert open_["concurrency"].isna().all()
    assert open_["client_gap_ms"].isna().all()
    assert (open_["offered_rate"] == 300).all()


def test_whole_numbers_stay_whole_in_a_file(analysis: Analysis, tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    analysis.points.to_csv(path, index=False)
    read = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert sorted(set(read["concurrency"])) == ["", "4"]
    assert sorted(set(read["max_queue_delay_us"])) == ["", "250"]
    assert read["requests"].str.isdigit().all()


def test_an_unsupported_percentile_is_an_empty_cell(tmp_path: Path) -> None:
    analysis = analyse(write_run(tmp_path, BOTH_LOADS, machine=Machine(fixed_ms=30.0)))
    row = analysis.points.set_index("point").loc["cnn-i1-nodyn-m16-http-b1-c4"]
    assert pd.isna(row["latency_ms_p99"])
    assert pd.isna(row["latency_ms_p99_low"])
    assert row["latency_ms_p90"] > 0
    assert analysis.trials["latency_ms_p99"].isna().all()
    assert analysis.trials["latency_ms_p50"].notna().all()


def test_every_trial_has_a_row_sentinels_too(analysis: Analysis) -> None:
    trials = analysis.trials
    assert len(trials) == 4 * 3 + 3
    assert (trials["role"] == "sentinel").sum() == 3
    assert trials["trial"].is_monotonic_increasing
    rate = trials["requests"] / trials["window_s"]
    assert rate.to_numpy() == pytest.approx(trials["throughput"].to_numpy())
    assert trials["reconnects"].tolist() == [0] * 15
    assert trials["notes"].tolist() == [""] * 15


def test_a_trials_row_has_its_notes_and_how_often_it_had_to_connect_again(tmp_path: Path) -> None:
    def alter(measured: Measured) -> Measured:
        health = measured.record.generator
        assert health is not None
        if measured.record.pass_index == 1:
            return with_record(measured, generator=None, notes=("it was silent", "and again"))
        return with_record(measured, generator=health.model_copy(update={"reconnects": 7}))

    rows = analyse(write_run(tmp_path, BOTH_LOADS, alter=alter)).trials.set_index("pass")
    assert set(rows.loc[1, "notes"]) == {"it was silent; and again"}
    assert rows.loc[1, "reconnects"].isna().all()
    assert set(rows.loc[0, "reconnects"]) == {7}
