"""Open loads: response and service times, the schedule, the cap, overload; and one long window."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.analysis import analyse
from harness.analysis.verdicts import Verdict
from harness.records import Calibration, CalibrationRow, Outcome
from tests.queueing import Machine
from tests.runs import with_outcome, with_record, write_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis
    from tests.runs import Measured

OPEN = """
model: cnn
sweep: {rate: [300], max_in_flight: 64}
measure: {window: 2s, passes: 4, sentinels: false}
slo: {p99: 50ms, errors: 0}
"""
CLOSED = """
model: cnn
sweep: {concurrency: [4]}
measure: {window: 1s, passes: 4, sentinels: false}
slo: {p99: 50ms, errors: 0}
"""
MARKOV = Machine(fixed_ms=2.0, per_inference_ms=0.0, exponential=True, drift=0.0)


def analysed(
    root: Path,
    text: str = OPEN,
    machine: Machine = MARKOV,
    alter: Callable[[Measured], Measured] | None = None,
) -> Analysis:
    return analyse(write_run(root, text, machine=machine, alter=alter))


def only(analysis: Analysis) -> PointResult:
    (point,) = analysis.results
    return point


def test_a_poisson_load_on_one_server_is_the_textbook_queue(tmp_path: Path) -> None:
    text = OPEN.replace("window: 2s", "window: 20s")
    point = only(analysed(tmp_path, text))
    mean_ms = 2.0 / (1 - 300 * 2e-3) + MARKOV.network_ms
    assert point.latency_mean_ms.contains(mean_ms)
    assert point.p99_ms is not None
    assert point.p99_ms.contains(math.log(100) * 2.0 / (1 - 0.6) + MARKOV.network_ms)
    assert point.throughput.estimate == pytest.approx(300, rel=0.03)
    assert point.verdict is Verdict.VALID


def test_offered_sent_and_achieved_rates_agree_where_nothing_is_held_back(tmp_path: Path) -> None:
    point = only(analysed(tmp_path))
    assert point.arrivals is not None
    assert point.arrivals.due_rps == pytest.approx(300, rel=0.1)
    assert point.arrivals.sent_rps == pytest.approx(point.arrivals.due_rps)
    assert point.arrivals.achieved_rps == pytest.approx(point.arrivals.due_rps, rel=0.02)
    assert not point.arrivals.capped
    assert point.arrivals.late == 0
    assert point.service_mean_ms == point.latency_mean_ms
    assert point.breakdown is not None
    assert point.breakdown.waiting_to_send_ms == 0


def test_a_cap_of_one_turns_waiting_into_response_time_that_service_hides(tmp_path: Path) -> None:
    text = OPEN.replace("max_in_flight: 64", "max_in_flight: 1")
    analysis = analysed(tmp_path, text)
    point = only(analysis)
    assert point.arrivals is not None
    assert point.arrivals.capped
    assert point.arrivals.late > 0.1 * point.requests
    assert point.arrivals.slip_p99_ms > 5
    service, response = point.service_percentiles[0.95], point.percentiles[0.95]
    assert service.interval_ms is not None
    assert response.interval_ms is not None
    assert response.interval_ms.estimate > 2 * service.interval_ms.estimate
    assert point.breakdown is not None
    parts = point.breakdown
    waited_ms = point.latency_mean_ms.estimate - point.service_mean_ms.estimate
    assert parts.waiting_to_send_ms == pytest.approx(waited_ms)
    assert parts.client_and_network_ms == pytest.approx(MARKOV.network_ms, rel=0.02)
    assert not any("late" in reason for reason in point.reasons), "the cap was asked for"
    row = analysis.points.iloc[0]
    assert row["in_flight_capped"]
    assert row["late_requests"] == point.arrivals.late
    assert row["service_ms_p95"] == service.interval_ms.estimate
    assert row["latency_ms_p95"] == response.interval_ms.estimate


def test_a_generator_that_sends_late_is_named(tmp_path: Path) -> None:
    def late(measured: Measured) -> Measured:
        samples = measured.samples.copy()
        delay = 12_000_000 * (np.arange(len(samples)) % 20 == 0)
        samples["sent_ns"] += delay
        samples["done_ns"] += delay
        return replace(measured, samples=samples)

    point = only(analysed(tmp_path, alter=late))
    assert point.verdict is Verdict.GENERATOR_BOUND
    assert "requests were sent 12.0 ms late (p99)" in point.reasons[0]


def test_requests_that_were_never_sent_are_the_generators(tmp_path: Path) -> None:
    def unsent(measured: Measured) -> Measured:
        health = measured.record.generator
        assert health is not None
        return with_record(measured, generator=health.model_copy(update={"unsent": 60}))

    analysis = analysed(tmp_path, alter=unsent)
    point = only(analysis)
    assert point.verdict is Verdict.GENERATOR_BOUND
    assert "9" in point.reasons[0]
    assert "requests that were due were not sent" in point.reasons[0]
    assert analysis.points["unsent_requests"].tolist() == [240]


def test_more_than_the_server_can_do_is_overload(tmp_path: Path) -> None:
    point = only(analysed(tmp_path, OPEN.replace("[300]", "[700]").replace(": 64", ": 1000")))
    assert point.verdict is Verdict.UNSTEADY
    assert point.reasons[0].startswith("overloaded: ")


def test_a_stall_shows_in_response_times_and_is_flagged(tmp_path: Path) -> None:
    def stall(measured: Measured) -> Measured:
        """The server stands still for 1 s from the window's fifth second on; then it catches up."""
        samples = measured.samples.copy()
        begin = (measured.record.window_start_ns or 0) + 5_000_000_000
        held = (samples["done_ns"] > begin) & (samples["done_ns"] < begin + 1_000_000_000)
        samples["done_ns"][held] = begin + 1_000_000_000 + np.arange(held.sum()) * 100_000
        return replace(measured, samples=np.sort(samples, order="done_ns"))

    text = OPEN.replace("window: 2s, passes: 4", "window: 10s, passes: 1")
    point = only(analysed(tmp_path, text, alter=stall))
    silence = [re.search(r"nothing was answered for (\d+) ms", reason) for reason in point.reasons]
    assert [950 < int(found[1]) < 1050 for found in silence if found] == [True], point.reasons
    assert point.percentiles[0.95].interval_ms is not None
    assert point.percentiles[0.95].interval_ms.estimate > 400
    closed = only(
        analysed(tmp_path / "closed", text.replace("rate: [300], max_in_flight: 64", "concurrency: [1]"),
                 alter=stall)
    )  # fmt: skip
    assert any("its percentiles hide it" in reason for reason in closed.reasons), closed.reasons


def test_one_long_window_has_intervals_from_its_batches(tmp_path: Path) -> None:
    text = OPEN.replace("window: 2s, passes: 4", "window: 80s, passes: 1")
    point = only(analysed(tmp_path, text))
    assert point.passes == 1
    assert 0 < point.throughput.half_width_relative < 0.1
    assert point.throughput.contains(300)
    assert point.p99_ms is not None
    assert math.isfinite(point.p99_ms.high)
    assert abs(point.serial_correlation) < 0.5
    assert point.verdict is Verdict.VALID, point.reasons


def test_a_window_that_drifts_all_along_is_too_short_for_an_interval(tmp_path: Path) -> None:
    def slower_and_slower(measured: Measured) -> Measured:
        samples = measured.samples.copy()
        for moment in ("scheduled_ns", "sent_ns"):
            samples[moment] -= np.linspace(0, 20e6, len(samples)).astype(np.int64)
        return replace(measured, samples=samples)

    text = CLOSED.replace("window: 1s, passes: 4", "window: 30s, passes: 1").replace("50ms", "1s")
    point = only(analysed(tmp_path, text, Machine(), slower_and_slower))
    assert point.serial_correlation > 0.5
    assert any("its parts hang together" in reason for reason in point.reasons), point.reasons


def test_a_short_lone_window_has_no_interval(tmp_path: Path) -> None:
    text = OPEN.replace("window: 2s, passes: 4", "window: 500ms, passes: 1")
    point = only(analysed(tmp_path, text))
    assert math.isnan(point.throughput.low)
    assert "1 pass, an interval needs 3, or one window with 20,000 right answers" in point.reasons


def test_goodput_counts_right_answers_within_the_slo(tmp_path: Path) -> None:
    point = only(analysed(tmp_path, OPEN.replace("p99: 50ms", "p99: 5ms")))
    share = 1 - math.exp(-(5 - MARKOV.network_ms) / (2 / (1 - 0.6)))
    assert point.goodput.estimate == pytest.approx(share * point.throughput.estimate, rel=0.05)
    assert point.goodput.low < point.goodput.estimate < point.goodput.high
    free = only(analysed(tmp_path, OPEN.replace("p99: 50ms, ", "")))
    assert free.goodput == free.throughput


def test_failures_have_a_latency_of_their_own(tmp_path: Path) -> None:
    def timeouts(measured: Measured) -> Measured:
        failing = with_outcome(measured, Outcome.TIMEOUT, 0.05)
        late = failing.samples["outcome"] == Outcome.TIMEOUT
        failing.samples["sent_ns"][late] = failing.samples["done_ns"][late] - 250_000_000
        return failing

    analysis = analysed(tmp_path, CLOSED, Machine(), timeouts)
    point = only(analysis)
    assert point.failure_ms == {Outcome.TIMEOUT: pytest.approx(250.0)}
    row = analysis.points.iloc[0]
    assert row["errors_timeout"] == point.errors == row["errors"]
    assert row["failed_ms_timeout"] == pytest.approx(250.0)
    assert row["errors_refused"] == 0
    assert math.isnan(row["failed_ms_refused"])
    assert row["latency_ms_p99"] < 20


@pytest.mark.parametrize(("target", "missed"), [("30%", False), ("0.1%", True)])
def test_a_missed_target_is_a_reason_and_no_fault(
    tmp_path: Path, target: str, missed: bool
) -> None:
    text = CLOSED.replace(
        "passes: 4", f"passes: 4, max_passes: 5, target: {{throughput: {target}}}"
    )
    point = only(analysed(tmp_path, text, Machine()))
    assert point.verdict is Verdict.VALID
    assert bool(point.reasons) is missed
    if missed:
        assert point.reasons[0].startswith("target not reached: throughput ±")
        assert point.reasons[0].endswith("after 4 passes, ±0.1 % was aimed for")


def test_a_point_is_held_against_the_generators_ceiling(tmp_path: Path) -> None:
    run = write_run(tmp_path, CLOSED)
    row = CalibrationRow(
        protocol="http", batch_size=1, ceiling_users=16, ceiling_rps=3200.0, client_cpu_ms=0.1,
        null_ms_p50=0.4, own_ms=0.2, sleep_ms=20, sleep_excess_ms=0.3, sleep_sd_ms=0.1, users=4,
        in_flight=3.99,
    )  # fmt: skip
    others = row.model_copy(update={"models": ("rnn",), "ceiling_rps": 800.0})
    own = row.model_copy(update={"models": ("rnn", "cnn")})
    for rows, share in (((row,), 0.25), ((others, own), 0.25), ((others,), None), ((), None)):
        calibration = Calibration(clock_resolution_ns=1, rows=rows)
        run.write_record(run.record().model_copy(update={"calibration": calibration}))
        point = only(analyse(run))
        assert point.ceiling_share == (share if share is None else pytest.approx(share, rel=0.1))


@pytest.mark.parametrize(("ceiling_rps", "near"), [(1.5, False), (1.1, True)])
def test_a_point_close_to_the_ceiling_says_so_and_is_not_in_doubt(
    tmp_path: Path, ceiling_rps: float, near: bool
) -> None:
    """The ceiling is so many times what the point reached."""
    run = write_run(tmp_path, CLOSED)
    before = only(analyse(run))
    row = CalibrationRow(
        protocol="http", batch_size=1, ceiling_users=16, client_cpu_ms=0.1, null_ms_p50=0.4, own_ms=0.2,
        ceiling_rps=ceiling_rps * before.requests / before.window_s, sleep_ms=20, sleep_excess_ms=0.3,
        sleep_sd_ms=0.1, users=4, in_flight=3.99,
    )  # fmt: skip
    calibration = Calibration(clock_resolution_ns=1, rows=(row,))
    run.write_record(run.record().model_copy(update={"calibration": calibration}))
    point = only(analyse(run))
    assert point.verdict is Verdict.VALID
    said = (
        "it reached 91 % of what the load generator reached against a model that answers at once,"
    )
    assert [reason.startswith(said) for reason in point.reasons] == [True] * near


@pytest.mark.parametrize(
    ("in_flight", "users", "doubted"), [(9.9, 16, True), (9.9, 64, True), (15.3, 16, False)]
)
def test_a_generator_that_holds_requests_back_puts_its_points_in_doubt(
    tmp_path: Path, in_flight: float, users: int, doubted: bool
) -> None:
    """Of 4, 8 and 16 users, those that the server was seen to have in hand are not in doubt."""
    run = write_run(tmp_path, CLOSED.replace("concurrency: [4]", "concurrency: [4, 8, 16]"))
    row = CalibrationRow(
        protocol="http", batch_size=1, ceiling_users=16, ceiling_rps=32000.0, client_cpu_ms=0.1,
        null_ms_p50=0.4, own_ms=0.2, sleep_ms=5, sleep_excess_ms=0.3, sleep_sd_ms=0.1, users=users,
        in_flight=in_flight,
    )  # fmt: skip
    calibration = Calibration(clock_resolution_ns=1, rows=(row,))
    run.write_record(run.record().model_copy(update={"calibration": calibration}))
    points = analyse(run).results
    assert [point.verdict is Verdict.GENERATOR_BOUND for point in points] == [False, False, doubted]
    if doubted:
        said = f"of {users} users, the server saw only 9.9 requests in flight"
        assert points[-1].reasons[0].startswith(said)
