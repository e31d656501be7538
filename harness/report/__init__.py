"""Report: figures, the page, machine-readable tables. The only importer of matplotlib."""
