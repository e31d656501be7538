"""What to think of a run as a whole: its verdict, and the drift that its sentinel trials show.

Sentinels are in no point, so what is wrong with them is said here or nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis.broken import cause_of, lasting, repetitions
from harness.analysis.results import Drift
from harness.analysis.verdicts import RunVerdict, Verdict, percent
from harness.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import WorkloadResult
    from harness.analysis.trial import TrialMeasures
    from harness.records import RunRecord
    from harness.scenario import Slo

__all__ = ["judge_run", "sentinel_drift"]

# Windows of 1 s of one point differ by 9 % (cv) on a noisy machine, so three of them span 15 % by chance.
MOST_DRIFT = 0.30


def sentinel_drift(trials: Iterable[TrialMeasures]) -> Drift | None:
    """What the sentinel trials show; ``None`` where there is none with a window."""
    watched = [trial for trial in trials if trial.record.role == "sentinel" and trial.whole]
    if not watched:
        return None
    return Drift(
        watched[0].record.point.key,
        tuple(trial.record.index for trial in watched),
        tuple(trial.throughput for trial in watched),
    )


def judge_run(
    record: RunRecord,
    slo: Slo,
    trials: Sequence[TrialMeasures],
    results: Sequence[PointResult],
    workloads: Sequence[WorkloadResult],
    drift: Drift | None,
) -> RunVerdict:
    """The verdict on a run.

    Args:
        record: how it was made.
        slo: the service level objective.
        trials: all of its trials.
        results: its points, judged.
        workloads: its rankings.
        drift: what its sentinels show.
    """
    valid = sum(result.valid for result in results)
    sentinels = [trial for trial in trials if trial.record.role == "sentinel"]
    matters = [*_wrong_answers(results, sentinels)]
    wrong = bool(matters)
    if not valid:
        matters.append("no valid point")
    if record.status != "complete":
        done = f"{len(trials)} of {record.planned_trials} trials measured"
        matters.append(f"{_status(record)} ({done})")
    for workload in workloads:
        if workload.doubtful:
            more = len(workload.doubtful) - 1
            others = f" (and {more} more)" if more else ""
            matters.append(f"{workload.label}: {workload.doubtful[0]}{others}")
    if drift and drift.spread > MOST_DRIFT:
        rates = " → ".join(f"{rate:,.0f}" for rate in drift.throughput)
        matters.append(f"the machine drifted: {drift.point} gave {rates} inferences/s")
    matters += _failed_sentinels(sentinels, slo)
    notes = _doubtful_points(results) if valid < len(results) else []
    notes += repetitions([trial.record for trial in trials])
    if not matters:
        return RunVerdict("valid", valid=True, exit_code=0, reasons=tuple(notes))
    return RunVerdict(
        matters[0],
        valid=False,
        exit_code=4 if wrong or not valid else 0,
        reasons=(*matters, *notes),
    )


def _wrong_answers(
    results: Sequence[PointResult], sentinels: Sequence[TrialMeasures]
) -> Iterator[str]:
    points = [result for result in results if result.wrong_answers]
    if points:
        plural = "point" if len(points) == 1 else "points"
        yield f"wrong answers in {len(points)} {plural}, such as {points[0].key}"
    wrong = sum(_failures(trial, wrong=True) for trial in sentinels)
    if wrong:
        answers = "answer" if wrong == 1 else "answers"
        yield f"{wrong:,} wrong {answers} to the sentinel trials of {sentinels[0].record.point.key}"


def _failed_sentinels(sentinels: Sequence[TrialMeasures], slo: Slo) -> Iterator[str]:
    """Requests and trials that failed: without these sentinels nobody knows whether the machine drifted."""
    broken = lasting([trial.record for trial in sentinels])
    if broken:
        yield f"{len(broken)} of {len(sentinels)} sentinel trials failed: {cause_of(broken)}"
    errors = sum(_failures(trial, wrong=False) for trial in sentinels)
    requests = sum(trial.requests for trial in sentinels if trial.whole)
    if errors and errors / requests > slo.errors:
        yield f"{percent(errors / requests)} of the requests of the sentinel trials failed"


def _failures(trial: TrialMeasures, *, wrong: bool) -> int:
    """Failed requests of a whole window: wrong answers, or all others."""
    counted = trial.failures.items() if trial.whole else ()
    return sum(count for kind, count in counted if (kind is Outcome.WRONG_ANSWER) is wrong)


def _status(record: RunRecord) -> str:
    said = {
        "running": "not finished: still going on, or cut off",
        "interrupted": "interrupted",
        "failed": "the run failed",
    }[record.status]
    return f"{said}: {record.status_reason.rstrip('.')}" if record.status_reason else said


def _doubtful_points(results: Sequence[PointResult]) -> list[str]:
    counts = {
        verdict: sum(result.verdict is verdict for result in results)
        for verdict in Verdict
        if verdict is not Verdict.VALID
    }
    kinds = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    doubtful = sum(counts.values())
    return [f"{doubtful} of {len(results)} points are doubtful: {kinds}"]
