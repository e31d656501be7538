"""Gather the verbs: importing this module registers every command on the app."""

from __future__ import annotations

from harness.cli import export, report, run, serve, server, train, tune

__all__ = ["export", "report", "run", "serve", "server", "train", "tune"]
