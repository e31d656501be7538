"""Gather the verbs: importing this module registers every command on the app."""

from __future__ import annotations

from harness.cli import export as export
from harness.cli import run as run
from harness.cli import train as train

__all__: list[str] = []
