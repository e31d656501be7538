"""Judging a point: every reason for doubt, in words, and the verdict that the worst of them makes.

No point is thrown away; a doubtful one is shown as doubtful wherever it appears, and never wins.
``docs/verdicts.md`` explains each verdict to the reader of a report. Thresholds stand beside the findings
that use them, each with its reason, and are never widened to make a run look better.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from harness.analysis.bookkeeping import SLOW_EDGE_MS, count_disagreement
from harness.analysis.broken import lasting, repetitions
from harness.analysis.generator import (
    beyond_proof,
    concurrency_findings,
    generator_findings,
    near_ceiling,
)
from harness.analysis.steadiness import sample_findings, steadiness_findings
from harness.analysis.verdicts import Verdict, percent
from harness.records import OUTCOME_LABELS, Outcome

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.trial import TrialMeasures
    from harness.analysis.verdicts import Finding
    from harness.records import Calibration, TrialRecord
    from harness.scenario import Measure, Slo

__all__ = ["judge"]

# What the system itself uses without disturbing anything.
OTHERS_ALWAYS_FINE_CORES = 0.3
# Of what was noted of the server this much is said of a point; trials.csv has all of it.
MOST_NOTES = 3
# What other processes may be the cause of, the worst first.
DISTURBANCES = (Verdict.COUNTS_DISAGREE, Verdict.GENERATOR_BOUND, Verdict.UNSTEADY)


def judge(
    result: PointResult,
    trials: Sequence[TrialMeasures],
    slo: Slo,
    measure: Measure,
    calibration: Calibration | None = None,
    untold: Collection[str] = (),
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on a point and every reason for doubt, the worst first.

    Args:
        result: the point, pooled.
        trials: the trials that it was measured in.
        slo: the service level objective.
        measure: how it was to be measured; a target that was missed is a reason without a verdict.
        calibration: what the generator proved of itself before the run, where it did.
        untold: what a server of this kind never tells, ``statistics`` or ``processes``: no doubt about a
            point, since a note of the run says it once.
    """
    whole = [trial for trial in trials if trial.whole]
    records = [trial.record for trial in trials]
    broken = lasting(records)
    findings = [
        *_broken(broken, len(trials)),
        *_answers(result, slo),
        *_effectiveness([*(trial.record for trial in whole), *broken]),
    ]
    if result.requests:
        findings += [
            *_counts(whole),
            *generator_findings(result, whole),
            *concurrency_findings(result, whole, calibration),
            *steadiness_findings(result, whole),
            *sample_findings(result),
            *_telemetry(result, whole, untold),
        ]
    elif whole:
        findings.append((Verdict.TOO_FEW_SAMPLES, "no request ended within the windows"))
    findings += _interference(result, [verdict for verdict, _ in findings])
    severity = list(Verdict)
    findings.sort(key=lambda finding: severity.index(finding[0]))
    verdict = findings[0][0] if findings else Verdict.VALID
    notes = (
        *repetitions(records),
        *_noted(whole),
        *_missed_targets(result, measure),
        *beyond_proof(result, whole, calibration),
        *near_ceiling(result),
    )
    return verdict, (*(reason for _, reason in findings), *notes)


def _broken(broken: Sequence[TrialRecord], measured: int) -> Iterator[Finding]:
    why = Counter(trial.failure or "it has no window" for trial in broken)
    for reason, count in why.most_common():
        yield Verdict.TRIAL_FAILED, f"{count} of {measured} trials failed: {reason.rstrip('.')}"


def _answers(result: PointResult, slo: Slo) -> Iterator[Finding]:
    if result.wrong_answers:
        share = percent(result.wrong_answers / result.requests)
        said = f"{result.wrong_answers:,} of {result.requests:,} answers were wrong ({share})"
        yield Verdict.WRONG_ANSWERS, said
    if result.errors and result.errors / result.requests > slo.errors:
        kinds = ", ".join(
            f"{count:,} {OUTCOME_LABELS[kind]}"
            for kind, count in result.failures.items()
            if kind is not Outcome.WRONG_ANSWER
        )
        share = percent(result.errors / result.requests)
        allowed = f", {percent(slo.errors)} allowed" if slo.errors else ""
        yield Verdict.ERRORS, f"{share} of the requests failed{allowed}: {kinds}"


def _effectiveness(trials: Sequence[TrialRecord]) -> Iterator[Finding]:
    differences = dict.fromkeys(d for trial in trials for d in trial.differences)
    for difference in differences:
        yield Verdict.NOT_EFFECTIVE, f"the server did not take the configuration: {difference}"


def _counts(whole: Sequence[TrialMeasures]) -> Iterator[Finding]:
    wrong = [trial for trial in whole if count_disagreement(trial)]
    if not wrong:
        return
    worst = max(wrong, key=lambda trial: abs(trial.requests - (trial.server_requests or 0)))
    said = (
        f"{worst.requests:,} requests ended in the window of pass {worst.record.pass_index + 1},"
        f" but the server counted {worst.server_requests:,}"
    )
    edge_ms = worst.record.statistics.edge_error_ms if worst.record.statistics else 0.0
    if edge_ms > SLOW_EDGE_MS:
        said += f" (its statistics took {2 * edge_ms:.0f} ms to read)"
    yield Verdict.COUNTS_DISAGREE, said


def _telemetry(
    result: PointResult, whole: Sequence[TrialMeasures], untold: Collection[str]
) -> Iterator[Finding]:
    missing = []
    if "statistics" not in untold and any(trial.record.statistics is None for trial in whole):
        note = next((t.record.statistics_note for t in whole if t.record.statistics_note), "")
        missing.append("the server's statistics" + (f" ({note.rstrip('.')})" if note else ""))
    if "processes" not in untold and result.server_cpu_cores is None:
        missing.append("the server's CPU")
    health = [trial.record.generator for trial in whole]
    unseen = any(each is None or each.loop_lag_p99_ms is None for each in health)
    if result.client_cpu_cores is None or unseen:
        missing.append("the load generator's health")
    if missing:
        yield Verdict.TELEMETRY_MISSING, f"not known: {', '.join(missing)}"


def _interference(result: PointResult, found: Sequence[Verdict]) -> Iterator[Finding]:
    """Other processes, where they are a likely cause of the worst that was found."""
    disturbed = [verdict for verdict in DISTURBANCES if verdict in found]
    cores = result.other_cpu_cores
    if disturbed and cores is not None and cores > OTHERS_ALWAYS_FINE_CORES:
        yield disturbed[0], f"other processes of this machine used {cores:.1f} cores meanwhile"


def _noted(whole: Sequence[TrialMeasures]) -> Iterator[str]:
    """What was noted of the server while windows that count were measured."""
    notes = [
        f"pass {trial.record.pass_index + 1}: {note}"
        for trial in whole
        for note in trial.record.notes
    ]
    yield from notes[:MOST_NOTES]
    if len(notes) > MOST_NOTES:
        yield f"{len(notes)} such notes in all, see trials.csv"


def _missed_targets(result: PointResult, measure: Measure) -> Iterator[str]:
    """Targets that the most passes did not reach: worth knowing, and no fault of the point."""
    p99 = result.percentiles[0.99].interval_ms
    widths = {
        "throughput": result.throughput.half_width_relative,
        "p99": p99.half_width_relative if p99 else math.inf,
    }
    for quantity, target in measure.target.items():
        if (width := widths[quantity]) > target:
            seen = f"±{percent(width)}" if math.isfinite(width) else "no interval"
            yield (
                f"target not reached: {quantity} {seen} after {result.passes} passes,"
                f" ±{percent(target)} was aimed for"
            )
