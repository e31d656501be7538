"""From a run directory to an analysis: measure each trial, pool each point, judge, rank."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.analysis.bookkeeping import ceiling_share
from harness.analysis.judging import judge
from harness.analysis.points import group_trials, pool
from harness.analysis.ranking import rank
from harness.analysis.resources import resources_of
from harness.analysis.results import Analysis
from harness.analysis.soundness import judge_run, sentinel_drift
from harness.analysis.tables import point_table, trial_table
from harness.analysis.trial import measure_trial
from harness.errors import NothingMeasuredError, UsageError
from harness.records import any_point
from harness.scenario import Measure, Slo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.archive import RunDirectory
    from harness.records import RunRecord, TrialRecord

__all__ = ["analyse"]


def analyse(run: RunDirectory) -> Analysis:
    """Analyse a run: its points with intervals and verdicts, and the best configuration per workload.

    Reads nothing but the run directory, and changes nothing in it.

    Raises:
        NothingMeasuredError: the run holds no trial of a point.
        UsageError: it is unreadable.
    """
    record = run.record()
    records = run.trials()
    if not any_point(records):
        raise NothingMeasuredError(
            "the run holds no trial: it ended before anything was measured", where=str(run.path)
        )
    slo, measure = _scenario_parts(record, run)
    trials = [measure_trial(run, trial) for trial in records]
    results = []
    untold = _untold(record)
    for group in group_trials(trials):
        pooled = pool(group, _backend(record, [trial.record for trial in group]), slo)
        pooled = replace(pooled, ceiling_share=ceiling_share(pooled, record.calibration))
        verdict, reasons = judge(pooled, group, slo, measure, record.calibration, untold)
        results.append(replace(pooled, verdict=verdict, reasons=reasons))
    workloads = rank(results, slo)
    drift = sentinel_drift(trials)
    return Analysis(
        record=record,
        slo=slo,
        measure=measure,
        trial_records=tuple(records),
        results=tuple(results),
        points=point_table(results),
        trials=trial_table(trials),
        workloads=workloads,
        drift=drift,
        verdict=judge_run(record, slo, trials, results, workloads, drift),
        resources=resources_of(run, records),
    )


def _scenario_parts(record: RunRecord, run: RunDirectory) -> tuple[Slo, Measure]:
    """The parts of the scenario that the analysis goes by."""
    try:
        slo = Slo.model_validate(record.scenario.get("slo") or {})
        measure = Measure.model_validate(record.scenario.get("measure") or {})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["scenario", *map(str, first["loc"])])
        raise UsageError(f"{place}: {first['msg']}", where=str(run.path / "run.json")) from error
    return slo, measure


def _untold(record: RunRecord) -> frozenset[str]:
    """What the server never tells, by its own account of what it offers."""
    offers = record.server.get("offers")
    if not isinstance(offers, dict):
        return frozenset()
    return frozenset(name for name in ("statistics", "processes") if offers.get(name) is False)


def _backend(record: RunRecord, trials: Sequence[TrialRecord]) -> str:
    """The model's backend, from the configuration that was effective."""
    for trial in trials:
        for configuration in (trial.effective, trial.requested):
            name = (configuration or {}).get("backend") or (configuration or {}).get("platform")
            if name:
                return str(name)
    return str(record.model.get("backend", ""))
