"""Report: figures, the page, machine-readable tables. The only importer of matplotlib."""

from __future__ import annotations

from harness.report.writing import rebuild, write_report

__all__ = ["rebuild", "write_report"]
