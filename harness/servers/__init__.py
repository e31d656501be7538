"""Serve: embedded, container, remote; control plane; telemetry. The only importer of Docker."""

from __future__ import annotations

from harness.servers.start import serving

__all__ = ["serving"]
