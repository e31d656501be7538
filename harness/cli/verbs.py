"""Gather the verbs: importing this module registers every command on the app."""

from __future__ import annotations

from harness.cli import export, run, serve, server, train

__all__ = ["export", "run", "serve", "server", "train"]
