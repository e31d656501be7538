"""Gather the verbs: importing this module registers every command on the app."""

from __future__ import annotations

__all__: list[str] = []
