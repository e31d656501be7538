"""Analyse: samples to a table with intervals and verdicts, and a ranking. Pure; reads the run directory."""
