"""Points: the trials of one point put together, and the table of all points."""

from __future__ import annotations

__all__ = ["COLUMNS"]

# The columns of summary.csv that every reader may count on, in their order.
COLUMNS = (
    "point", "model", "backend", "instances", "max_batch_size", "dynamic_batching",
    "max_queue_delay_us", "protocol", "batch_size", "load", "concurrency", "offered_rate", "passes",
    "window_s", "requests", "errors", "wrong_answers", "throughput", "throughput_low",
    "throughput_high", "latency_ms_mean", "latency_ms_p50", "latency_ms_p90", "latency_ms_p95",
    "latency_ms_p99", "latency_ms_p99_low", "latency_ms_p99_high", "client_gap_ms", "queue_ms",
    "compute_input_ms", "compute_infer_ms", "compute_output_ms", "executed_batch_mean",
    "client_cpu_cores", "server_cpu_cores", "verdict", "reasons",
)  # fmt: skip
