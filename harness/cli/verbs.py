"""Gather the verbs: importing this module registers every command on the app."""

from __future__ import annotations

from harness.cli import export, predict, report, run, serve, server, study, train, tune

__all__ = ["export", "predict", "report", "run", "serve", "server", "study", "train", "tune"]
