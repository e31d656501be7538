"""Gather the verbs: importing this module registers every command on the app."""

from __future__ import annotations

from harness.cli import calibrate, export, predict, report, run, serve, server, study, train, tune

__all__ = [
    "calibrate",
    "export",
    "predict",
    "report",
    "run",
    "serve",
    "server",
    "study",
    "train",
    "tune",
]
