"""Pure NumPy: intervals, truncation of the warm-up, sample counts. Imports nothing of the harness."""
