"""Judging a point: every reason for doubt, in words, and the verdict that the worst of them makes.

No point is thrown away; a doubtful one is shown as doubtful wherever it appears, and never wins.
``docs/verdicts.md`` explains each verdict to the reader of a report. The thresholds stand here, each with
its reason, and are never widened to make a run look better.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from harness.analysis.bookkeeping import count_disagreement, idle_users
from harness.analysis.verdicts import Verdict
from harness.archive import OUTCOME_LABELS, Outcome
from harness.statistics.intervals import paired_ratio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.analysis.results import PointResult
    from harness.analysis.trial import TrialMeasures
    from harness.scenario import Slo

__all__ = ["judge"]

# One event loop runs on one core. Above this it has no room left, and what is measured is its own speed
# (Model Analyzer's 80 % counts all threads of perf_analyzer; a single loop is honest a little longer).
MOST_CLIENT_CORES = 0.9

# How late the generator's own 10 ms timer fires is how late it may have noticed an answer. The generator
# takes the answers of a batch one after the other, and shares the machine with the server, so a lag below
# this is its normal work at high concurrency …
LAG_ALWAYS_FINE_MS = 5.0
# … and above it, a lag matters once it is a good part of the latency that is published beside it.
MOST_LAG_OF_P99 = 0.5

# A 95 % interval wider than this either way tells little more than the order of magnitude. Windows of
# 1 s vary by 9 % on a noisy two-core machine, which makes ±12 % of five passes.
MOST_HALF_WIDTH = 0.25

# The second half of the windows against the first, over the passes: a server that has warmed up and does
# not degrade gives the same in both.
MOST_CHANGE_IN_WINDOW = 0.15

# A pause with requests in flight and not one answer. Scheduling on a busy machine makes pauses of tens of
# milliseconds; slow models pause for as long as a request takes.
PAUSE_ALWAYS_FINE_MS = 100.0
MOST_PAUSE_OF_MEDIAN = 10.0

# Student's t of two passes is 12.7: such an interval is no help to anybody.
FEWEST_PASSES = 3


def judge(
    result: PointResult, trials: Sequence[TrialMeasures], slo: Slo
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on a point and every reason for doubt, the worst first.

    Args:
        result: the point, pooled.
        trials: the trials that it was measured in.
        slo: the service level objective.
    """
    whole = [trial for trial in trials if trial.whole]
    findings = [
        *_broken(trials),
        *_answers(result, slo),
        *_effectiveness(trials),
    ]
    if result.requests:
        findings += [
            *_counts(whole),
            *_generator(result, whole),
            *_steadiness(result, whole),
            *_samples(result, whole),
            *_telemetry(result, whole),
        ]
    elif whole:
        findings.append((Verdict.TOO_FEW_SAMPLES, "no request ended within the windows"))
    severity = list(Verdict)
    findings.sort(key=lambda finding: severity.index(finding[0]))
    verdict = findings[0][0] if findings else Verdict.VALID
    return verdict, tuple(reason for _, reason in findings)


def _broken(trials: Sequence[TrialMeasures]) -> Iterator[tuple[Verdict, str]]:
    broken = [trial for trial in trials if not trial.whole]
    why = Counter(trial.record.failure or "it has no window" for trial in broken)
    for reason, count in why.most_common():
        yield Verdict.TRIAL_FAILED, f"{count} of {len(trials)} trials failed: {reason.rstrip('.')}"


def _answers(result: PointResult, slo: Slo) -> Iterator[tuple[Verdict, str]]:
    if result.wrong_answers:
        share = _percent(result.wrong_answers / result.requests)
        said = f"{result.wrong_answers:,} of {result.requests:,} answers were wrong ({share})"
        yield Verdict.WRONG_ANSWERS, said
    if result.errors and result.errors / result.requests > slo.errors:
        kinds = ", ".join(
            f"{count:,} {OUTCOME_LABELS[kind]}"
            for kind, count in result.failures.items()
            if kind is not Outcome.WRONG_ANSWER
        )
        share = _percent(result.errors / result.requests)
        allowed = f", {_percent(slo.errors)} allowed" if slo.errors else ""
        yield Verdict.ERRORS, f"{share} of the requests failed{allowed}: {kinds}"


def _effectiveness(trials: Sequence[TrialMeasures]) -> Iterator[tuple[Verdict, str]]:
    differences = dict.fromkeys(d for trial in trials for d in trial.record.differences)
    for difference in differences:
        yield Verdict.NOT_EFFECTIVE, f"the server did not take the configuration: {difference}"


def _counts(whole: Sequence[TrialMeasures]) -> Iterator[tuple[Verdict, str]]:
    wrong = [trial for trial in whole if count_disagreement(trial)]
    if wrong:
        worst = max(wrong, key=lambda trial: abs(trial.requests - (trial.server_requests or 0)))
        yield (
            Verdict.COUNTS_DISAGREE,
            (
                f"{worst.requests:,} requests ended in the window of pass {worst.record.pass_index + 1},"
                f" but the server counted {worst.server_requests:,}"
            ),
        )


def _generator(
    result: PointResult, whole: Sequence[TrialMeasures]
) -> Iterator[tuple[Verdict, str]]:
    cores = result.client_cpu_cores
    if cores is not None and cores > MOST_CLIENT_CORES:
        yield (
            Verdict.GENERATOR_BOUND,
            f"the load generator used {cores:.2f} of the one core that it can use",
        )
    lags = sorted(t.record.generator.loop_lag_p99_ms for t in whole if t.record.generator)
    p99 = result.percentiles[0.99].interval_ms
    if lags:
        lag_ms = lags[len(lags) // 2]
        latency_ms = p99.estimate if p99 else result.latency_mean_ms.estimate
        if lag_ms > max(LAG_ALWAYS_FINE_MS, MOST_LAG_OF_P99 * latency_ms):
            yield (
                Verdict.GENERATOR_BOUND,
                (
                    f"the load generator's event loop was {lag_ms:.1f} ms late (p99),"
                    f" beside a latency of {latency_ms:.1f} ms"
                ),
            )
    idle = idle_users(result)
    if idle is not None:
        yield Verdict.GENERATOR_BOUND, idle


def _steadiness(
    result: PointResult, whole: Sequence[TrialMeasures]
) -> Iterator[tuple[Verdict, str]]:
    slow = [trial for trial in whole if trial.slowest_ms > trial.window_s * 1e3]
    if slow:
        slowest = max(slow, key=lambda trial: trial.slowest_ms)
        yield (
            Verdict.WINDOW_TOO_SHORT,
            (
                f"a request took {slowest.slowest_ms / 1e3:.2f} s, the window {slowest.window_s:.2f} s:"
                " make the window longer"
            ),
        )
    width = result.throughput.half_width_relative
    if math.isfinite(width) and result.passes >= FEWEST_PASSES and width > MOST_HALF_WIDTH:
        yield (
            Verdict.UNSTEADY,
            f"throughput varies from pass to pass: ±{_percent(width)} over {result.passes} passes",
        )
    change = paired_ratio([t.halves[1] for t in whole], [t.halves[0] for t in whole])
    if (
        abs(change.estimate - 1) > MOST_CHANGE_IN_WINDOW
        and math.isfinite(change.low)
        and not change.contains(1)
    ):
        yield (
            Verdict.UNSTEADY,
            (
                f"throughput changed within the windows: {_percent(change.estimate - 1, sign='+')} from the"
                " first half to the second"
            ),
        )
    median_ms = result.percentiles[0.5].interval_ms
    limit_ms = PAUSE_ALWAYS_FINE_MS
    if median_ms:
        limit_ms = max(limit_ms, MOST_PAUSE_OF_MEDIAN * median_ms.estimate)
    paused = max(whole, key=lambda trial: trial.longest_silence_ms)
    if paused.longest_silence_ms > limit_ms:
        yield (
            Verdict.UNSTEADY,
            (
                f"nothing was answered for {paused.longest_silence_ms:.0f} ms in pass"
                f" {paused.record.pass_index + 1}"
            ),
        )


def _samples(result: PointResult, whole: Sequence[TrialMeasures]) -> Iterator[tuple[Verdict, str]]:
    p99 = result.percentiles[0.99]
    if p99.interval_ms is None:
        yield (
            Verdict.TOO_FEW_SAMPLES,
            f"{p99.samples:,} right answers, p99 needs {p99.needs:,}",
        )
    if len(whole) < FEWEST_PASSES:
        passes = "pass" if len(whole) == 1 else "passes"
        yield (
            Verdict.TOO_FEW_SAMPLES,
            f"{len(whole)} {passes}, an interval needs {FEWEST_PASSES}",
        )


def _telemetry(
    result: PointResult, whole: Sequence[TrialMeasures]
) -> Iterator[tuple[Verdict, str]]:
    missing = []
    if any(trial.record.statistics is None for trial in whole):
        note = next((t.record.statistics_note for t in whole if t.record.statistics_note), "")
        missing.append("the server's statistics" + (f" ({note.rstrip('.')})" if note else ""))
    if result.server_cpu_cores is None:
        missing.append("the server's CPU")
    if result.client_cpu_cores is None or any(t.record.generator is None for t in whole):
        missing.append("the load generator's health")
    if missing:
        yield Verdict.TELEMETRY_MISSING, f"not known: {', '.join(missing)}"


def _percent(share: float, sign: str = "") -> str:
    return f"{share * 100:{sign}.2g} %" if abs(share) < 0.1 else f"{share * 100:{sign}.0f} %"
