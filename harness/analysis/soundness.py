"""What to think of a run as a whole: its verdict, and the drift that its sentinel trials show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis.results import Drift
from harness.analysis.verdicts import RunVerdict, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import WorkloadResult
    from harness.analysis.trial import TrialMeasures
    from harness.records import RunRecord

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
    results: Sequence[PointResult],
    workloads: Sequence[WorkloadResult],
    drift: Drift | None,
    measured: int,
) -> RunVerdict:
    """The verdict on a run.

    Args:
        record: how it was made.
        results: its points, judged.
        workloads: its rankings.
        drift: what its sentinels show.
        measured: how many trials it has.
    """
    valid = sum(result.valid for result in results)
    wrong = [result for result in results if result.wrong_answers]
    matters = []
    if wrong:
        plural = "point" if len(wrong) == 1 else "points"
        matters.append(f"wrong answers in {len(wrong)} {plural}, such as {wrong[0].key}")
    if not valid:
        matters.append("no valid point")
    if record.status != "complete":
        done = f"{measured} of {record.planned_trials} trials measured"
        matters.append(f"{_status(record)} ({done})")
    for workload in workloads:
        if workload.doubtful:
            more = len(workload.doubtful) - 1
            others = f" (and {more} more)" if more else ""
            matters.append(f"{workload.label}: {workload.doubtful[0]}{others}")
    if drift and drift.spread > MOST_DRIFT:
        rates = " → ".join(f"{rate:,.0f}" for rate in drift.throughput)
        matters.append(f"the machine drifted: {drift.point} gave {rates} inferences/s")
    notes = _doubtful_points(results) if valid < len(results) else []
    if not matters:
        return RunVerdict("valid", valid=True, exit_code=0, reasons=tuple(notes))
    return RunVerdict(
        matters[0],
        valid=False,
        exit_code=4 if wrong or not valid else 0,
        reasons=(*matters, *notes),
    )


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
