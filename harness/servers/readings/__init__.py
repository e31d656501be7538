"""What is read beside a run: processes, counters, gauges."""
