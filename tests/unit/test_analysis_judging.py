"""Every verdict from a fault that deserves it, and none without."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.analysis import analyse
from harness.analysis.verdicts import Verdict
from harness.records import Outcome
from tests.queueing import Machine
from tests.runs import with_outcome, with_record, write_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.analysis.point_result import PointResult
    from tests.runs import Measured

SCENARIO = """
model: cnn
sweep: {concurrency: [8]}
measure: {window: 1s, passes: 4, seed: 7}
slo: {p99: 50ms, errors: 0}
"""


def judged(
    root: Path,
    alter: Callable[[Measured], Measured] | None = None,
    text: str = SCENARIO,
    machine: Machine | None = None,
) -> PointResult:
    (point,) = analyse(write_run(root, text, alter=alter, machine=machine)).results
    return point


def generator(**changes: float) -> Callable[[Measured], Measured]:
    def alter(measured: Measured) -> Measured:
        health = measured.record.generator
        assert health is not None
        return with_record(measured, generator=health.model_copy(update=changes))

    return alter


def statistics(**changes: object) -> Callable[[Measured], Measured]:
    def alter(measured: Measured) -> Measured:
        seen = measured.record.statistics
        assert seen is not None
        return with_record(measured, statistics=seen.model_copy(update=changes))

    return alter


def record(pass_index: int | None = None, /, **changes: object) -> Callable[[Measured], Measured]:
    def alter(measured: Measured) -> Measured:
        if pass_index is not None and measured.record.pass_index != pass_index:
            return measured
        return with_record(measured, **changes)

    return alter


def lost(measured: Measured) -> Measured:
    """Every tenth answer never reached the samples."""
    keep = np.arange(len(measured.samples)) % 10 != 0
    return replace(measured, samples=measured.samples[keep])


def stalled(measured: Measured) -> Measured:
    """From the middle of the window on, everything 300 ms later."""
    samples = measured.samples.copy()
    start_ns = measured.record.window_start_ns
    assert start_ns is not None
    late = samples["done_ns"] > start_ns + 500_000_000
    samples["done_ns"][late] += 300_000_000
    samples["sent_ns"][late & (samples["sent_ns"] > start_ns + 500_000_000)] += 300_000_000
    return replace(measured, samples=samples)


def fading(measured: Measured) -> Measured:
    """Half of the answers of the second half of the window are missing."""
    start_ns = measured.record.window_start_ns
    assert start_ns is not None
    late = measured.samples["done_ns"] > start_ns + 500_000_000
    keep = ~late | (np.arange(len(late)) % 2 == 0)
    return replace(measured, samples=measured.samples[keep])


def test_a_sound_point_is_valid_and_has_no_reason_for_doubt(tmp_path: Path) -> None:
    point = judged(tmp_path)
    assert point.verdict is Verdict.VALID
    assert point.reasons == ()
    assert point.valid


@pytest.mark.parametrize(
    ("alter", "verdict", "words"),
    [
        (record(1, failure="the server ended (signal 9)."), Verdict.TRIAL_FAILED,
         "1 of 4 trials failed: the server ended (signal 9)"),
        (lambda m: with_outcome(m, Outcome.WRONG_ANSWER, 0.02), Verdict.WRONG_ANSWERS,
         "answers were wrong (2 %)"),
        (record(differences=("instance_group count is 2, asked for 1",)), Verdict.NOT_EFFECTIVE,
         "instance_group count is 2, asked for 1"),
        (lambda m: with_outcome(m, Outcome.HTTP_5XX, 0.1), Verdict.ERRORS,
         "10 % of the requests failed: "),
        (statistics(success_count=700), Verdict.COUNTS_DISAGREE, "but the server counted 700"),
        (generator(loop_lag_p99_ms=None), Verdict.TELEMETRY_MISSING, "the load generator's health"),
        (generator(cpu_s=0.97), Verdict.GENERATOR_BOUND, "used 0.97 of the one core"),
        (generator(loop_lag_p99_ms=30.0), Verdict.GENERATOR_BOUND, "was 30.0 ms late (p99)"),
        (generator(waiting_ms=400.0), Verdict.UNSTEADY, "a request had waited 400 ms when"),
        (lost, Verdict.COUNTS_DISAGREE, "but the server counted"),
        (stalled, Verdict.COUNTS_DISAGREE, "nothing was answered for 3"),
        (fading, Verdict.COUNTS_DISAGREE, "from the first half to the second"),
        (record(2, statistics=None, statistics_note="the call timed out."),
         Verdict.TELEMETRY_MISSING, "the server's statistics (the call timed out)"),
        (record(generator=None), Verdict.TELEMETRY_MISSING, "the load generator's health"),
        (lambda m: replace(m, telemetry=[]), Verdict.TELEMETRY_MISSING, "the server's CPU"),
    ],
)  # fmt: skip
def test_a_fault_has_its_verdict_and_says_why(
    tmp_path: Path, alter: Callable[[Measured], Measured], verdict: Verdict, words: str
) -> None:
    point = judged(tmp_path, alter)
    assert point.verdict is verdict, point.reasons
    assert words in "; ".join(point.reasons)


@pytest.mark.parametrize(
    ("edge_error_ms", "missing", "disagree"),
    [(0.0, 15, False), (0.0, 20, True), (4.0, 20, False), (4.0, 30, True), (100.0, 30, True)],
)
def test_when_the_server_counted_is_known_no_better_than_its_statistics_took(
    tmp_path: Path, edge_error_ms: float, missing: int, disagree: bool
) -> None:
    """Of about 800 requests, eight in flight; within 5 ms at both edges eight are answered."""

    def counted(measured: Measured) -> Measured:
        seen = measured.record.statistics
        assert seen is not None
        count = seen.success_count - missing
        return statistics(success_count=count, edge_error_ms=edge_error_ms)(measured)

    point = judged(tmp_path, counted)
    assert (point.verdict is Verdict.COUNTS_DISAGREE) is disagree, point.reasons


def test_idle_users_are_the_generators_fault(tmp_path: Path) -> None:
    def lazy(measured: Measured) -> Measured:  # one user in eight never sends
        return replace(measured, samples=measured.samples[measured.samples["user"] != 3])

    point = judged(tmp_path, lazy)
    assert any("only 7 of 8 users got an answer" in r for r in point.reasons), point.reasons


@pytest.mark.parametrize(("spread", "unsteady"), [(0.05, False), (0.5, True)])
def test_passes_that_differ_much_are_unsteady(
    tmp_path: Path, spread: float, unsteady: bool
) -> None:
    point = judged(tmp_path, machine=Machine(drift=spread))
    assert (point.verdict is Verdict.UNSTEADY) is unsteady, point.reasons
    if unsteady:
        assert "throughput varies from pass to pass: ±" in point.reasons[0]


def test_a_window_shorter_than_a_request_is_said(tmp_path: Path) -> None:
    point = judged(tmp_path, machine=Machine(fixed_ms=170.0))
    assert point.verdict is Verdict.WINDOW_TOO_SHORT
    assert "a request took 1." in point.reasons[0]


def test_few_samples_are_said_with_what_it_takes(tmp_path: Path) -> None:
    point = judged(tmp_path, machine=Machine(fixed_ms=20.0, noise=0.0))
    assert point.verdict is Verdict.TOO_FEW_SAMPLES
    assert point.reasons == (f"{point.requests} right answers, p99 needs 459",)


def test_two_passes_are_too_few_for_an_interval(tmp_path: Path) -> None:
    point = judged(tmp_path, text=SCENARIO.replace("passes: 4", "passes: 2"))
    assert point.verdict is Verdict.TOO_FEW_SAMPLES
    assert point.reasons == ("2 passes, an interval needs 3",)


def test_errors_that_the_slo_allows_are_no_fault(tmp_path: Path) -> None:
    text = SCENARIO.replace("errors: 0", "errors: 5%")
    few = judged(tmp_path, lambda m: with_outcome(m, Outcome.TIMEOUT, 0.04), text)
    assert few.verdict is Verdict.VALID
    many = judged(tmp_path, lambda m: with_outcome(m, Outcome.TIMEOUT, 0.1), text)
    assert many.verdict is Verdict.ERRORS
    assert "10 % of the requests failed, 5 % allowed" in many.reasons[0]
    assert "timed out" in many.reasons[0]


def test_wrong_answers_are_never_allowed(tmp_path: Path) -> None:
    text = SCENARIO.replace("errors: 0", "errors: 50%")
    point = judged(tmp_path, lambda m: with_outcome(m, Outcome.WRONG_ANSWER, 0.001), text)
    assert point.verdict is Verdict.WRONG_ANSWERS


def test_users_that_hesitate_are_the_generators_fault(tmp_path: Path) -> None:
    point = judged(tmp_path, text=SCENARIO.replace("[8]", "[1]"), machine=Machine(gap_ms=0.9))
    assert point.verdict is Verdict.GENERATOR_BOUND
    assert "users took 0.90 ms to send again, beside a latency of 1.4" in point.reasons[0]


def pause(waited_ms: int) -> Callable[[Measured], Measured]:
    """What was in flight at the window's start had waited for so long; all before it was as much earlier."""

    def alter(measured: Measured) -> Measured:
        samples, start_ns = measured.samples.copy(), measured.record.window_start_ns or 0
        for moment in ("scheduled_ns", "sent_ns", "done_ns"):
            samples[moment][samples[moment] < start_ns] -= waited_ms * 1_000_000
        return replace(measured, samples=samples)

    return alter


@pytest.mark.parametrize(("waited_ms", "users"), [(35, "8.28"), (200, "9.6")])
def test_pauses_that_the_edges_cut_are_no_idle_users(
    tmp_path: Path, waited_ms: int, users: str
) -> None:
    point = judged(tmp_path, pause(waited_ms))
    assert point.verdict is Verdict.UNSTEADY, point.reasons
    assert any(f"8 users add up to {users}" in reason for reason in point.reasons), point.reasons


def test_pauses_that_move_less_than_three_percent_are_none(tmp_path: Path) -> None:
    point = judged(tmp_path, pause(25))
    assert point.concurrency_seen == pytest.approx(8 * 1.025, abs=0.01)
    assert point.verdict is Verdict.VALID, point.reasons


def test_other_processes_are_named_as_the_cause(tmp_path: Path) -> None:
    def busy(measured: Measured) -> Measured:
        origin = measured.telemetry[0][0]
        telemetry = [
            (moment, role, pid, cpu + 1.2 * (moment - origin) / 1e9 * (role == "host"), rss)
            for moment, role, pid, cpu, rss in measured.telemetry
        ]
        return generator(loop_lag_p99_ms=20.0)(replace(measured, telemetry=telemetry))

    point = judged(tmp_path, busy)
    assert point.other_cpu_cores == pytest.approx(1.2, rel=0.01)
    assert point.reasons[1:] == ("other processes of this machine used 1.2 cores meanwhile",)
    assert judged(tmp_path).other_cpu_cores == pytest.approx(0, abs=0.01)


def test_a_lag_is_judged_beside_the_latency(tmp_path: Path) -> None:
    text = SCENARIO.replace("[8]", "[32]").replace("50ms", "1s")
    slow = Machine(fixed_ms=5.0)
    late = generator(loop_lag_p99_ms=12.0)
    assert judged(tmp_path, late, text, slow).valid
    assert judged(tmp_path, late).verdict is Verdict.GENERATOR_BOUND


def test_every_reason_is_kept_and_the_worst_comes_first(tmp_path: Path) -> None:
    def alter(measured: Measured) -> Measured:
        measured = with_outcome(measured, Outcome.WRONG_ANSWER, 0.05)
        measured = generator(cpu_s=0.99)(measured)
        return with_record(measured, differences=("the batcher is on",))

    point = judged(tmp_path, alter)
    assert point.verdict is Verdict.WRONG_ANSWERS
    assert len(point.reasons) == 3
    assert "wrong" in point.reasons[0]
    assert "the batcher is on" in point.reasons[1]
    assert "one core" in point.reasons[2]


def test_a_point_that_never_had_a_window_has_only_that_verdict(tmp_path: Path) -> None:
    gone = record(failure="the server would not load it", window_start_ns=None, window_end_ns=None)
    point = judged(tmp_path, gone)
    assert point.verdict is Verdict.TRIAL_FAILED
    assert point.reasons == ("4 of 4 trials failed: the server would not load it",)
    assert point.passes == 0


def test_what_was_noted_of_the_server_is_said_and_no_doubt(tmp_path: Path) -> None:
    silent = "the server did not answer for 2.9 s"
    point = judged(tmp_path, record(1, notes=(silent,)))
    assert (point.verdict, point.reasons) == (Verdict.VALID, (f"pass 2: {silent}",))
    point = judged(tmp_path, record(notes=(silent,)))
    assert point.reasons[:3] == tuple(f"pass {number}: {silent}" for number in (1, 2, 3))
    assert point.reasons[3:] == ("4 such notes in all, see trials.csv",)


def attempt_at(next_pass: int, **changes: object) -> Callable[[Measured], Measured]:
    """Makes the trial before that pass a broken first attempt at it."""
    return record(next_pass - 1, pass_index=next_pass, window_end_ns=None, **changes)


def test_a_trial_that_was_repeated_with_success_is_a_note_and_no_doubt(tmp_path: Path) -> None:
    text = SCENARIO.replace("passes: 4", "passes: 5, sentinels: false")
    failure = "the server was ended by SIGKILL; its log ends:\nI1126 12:00:00.1 loading\nand more"
    alter = attempt_at(2, failure=failure, differences=("the batcher is on",))
    analysis = analyse(write_run(tmp_path, text, alter=alter))
    (point,) = analysis.results
    said = "1 trial broke and was repeated: the server was ended by SIGKILL"
    assert (point.verdict, point.reasons) == (Verdict.VALID, (said,))
    assert (point.passes, len(point.trials)) == (4, 5)
    assert analysis.workloads[0].winner is not None
    assert analysis.verdict.valid
    assert analysis.exit_code == 0
    assert analysis.verdict.reasons == (said,)


def test_a_repetition_that_broke_too_is_made_good_by_no_other_pass(tmp_path: Path) -> None:
    def alter(measured: Measured) -> Measured:
        return record(2, failure="it died", window_end_ns=None)(
            attempt_at(2, failure="it died")(measured)
        )

    text = SCENARIO.replace("passes: 4", "passes: 5, sentinels: false")
    point = judged(tmp_path, alter, text)
    assert point.verdict is Verdict.TRIAL_FAILED
    assert point.reasons == ("2 of 5 trials failed: it died",)


@pytest.mark.parametrize(
    ("offers", "verdict"),
    [
        ({"statistics": False, "processes": False}, Verdict.VALID),
        ({"statistics": False, "processes": True}, Verdict.TELEMETRY_MISSING),
        ({"statistics": True, "processes": False}, Verdict.TELEMETRY_MISSING),
        (None, Verdict.TELEMETRY_MISSING),
    ],
)
def test_what_a_server_never_tells_is_no_doubt_about_a_point(
    tmp_path: Path, offers: dict[str, bool] | None, verdict: Verdict
) -> None:
    def bare(measured: Measured) -> Measured:
        return with_record(replace(measured, telemetry=[]), statistics=None)

    run = write_run(tmp_path, SCENARIO, alter=bare)
    known = run.record()
    run.write_record(known.model_copy(update={"server": {"kind": "remote", "offers": offers}}))
    (point,) = analyse(run).results
    assert point.verdict is verdict, point.reasons
