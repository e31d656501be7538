"""Analyse: samples to a table with intervals and verdicts, and a ranking. Pure; reads the run directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.analysis.results import Analysis
    from harness.archive import RunDirectory

__all__ = ["analyse"]


def analyse(run: RunDirectory) -> Analysis:
    """Analyse a run: its points with intervals and verdicts, and the best configuration per workload.

    Reads nothing but the run directory, and changes nothing in it.

    Raises:
        UsageError: the run is unreadable, or holds no trial.
    """
    raise NotImplementedError
