"""Analyse: samples to a table with intervals and verdicts, and a ranking. Pure; reads the run directory."""

from __future__ import annotations

from harness.analysis.run import analyse

__all__ = ["analyse"]
