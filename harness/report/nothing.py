"""The analysis of a run that ended before anything was measured: its report says so, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from harness.analysis.results import Analysis
from harness.analysis.tables import COLUMNS
from harness.analysis.verdicts import RunVerdict
from harness.scenario import Measure, Slo

if TYPE_CHECKING:
    from harness.records import RunRecord

__all__ = ["nothing_measured"]


def nothing_measured(record: RunRecord) -> Analysis:
    """An analysis without points, with a verdict that says why there are none."""
    why = (
        record.status_reason.rstrip(".")
        or {
            "running": "the run is still going on, or was cut off",
            "interrupted": "it was stopped",
            "failed": "it failed",
            "complete": "it holds no trial of a point",
        }[record.status]
    )
    verdict = RunVerdict("nothing was measured", valid=False, exit_code=4, reasons=(why,))
    return Analysis(
        record=record,
        slo=Slo(),
        measure=Measure(),
        trial_records=(),
        results=(),
        points=pd.DataFrame(columns=list(COLUMNS)),
        trials=pd.DataFrame(columns=["trial", "pass", "role", "point"]),
        workloads=(),
        drift=None,
        verdict=verdict,
    )
