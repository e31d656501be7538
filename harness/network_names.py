"""The networks that ``harness train`` knows, for those who only name them; ``harness.models`` builds them."""

from __future__ import annotations

__all__ = ["NETWORK_NAMES"]

NETWORK_NAMES = ("cnn", "cnn_small", "cnn_wide", "gru")
