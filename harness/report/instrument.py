"""What the load generator itself can do on this server: the calibration before a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.formats import number, percent

if TYPE_CHECKING:
    from harness.records import CalibrationRow, RunRecord

__all__ = ["INSTRUMENT_COLUMNS", "instrument_lead", "instrument_rows"]

INSTRUMENT_COLUMNS = (
    ("Workload", ""),
    ("Ceiling", "requests/s"),
    ("Reached with", "users"),
    ("CPU a request", "ms"),
    ("Own latency", "ms"),
    ("Excess over a sleep", "ms"),
    ("Sent by", "users"),
    ("In flight", "at the server"),
    ("Concurrency", ""),
)
LEAD = (
    "Before the run, the load generator was measured against a model that answers at once and one that"
    " sleeps for a known time, on the same server. The ceiling is the most that the generator can send; own"
    " latency is what client and network add to every request; concurrency is proved where the server"
    " itself saw all users’ requests in flight. Models that have the same tensors share a row."
)
NOT_PROVED = (
    "Not proved: the generator was not measured against a known model on this server, so neither its"
    " ceiling nor the concurrency that the server saw is known."
)


def instrument_lead(record: RunRecord) -> str:
    """What was done to prove the instrument, or that nothing was."""
    if record.calibration is None:
        return " ".join([NOT_PROVED, *record.notes])
    resolution_ns = record.calibration.clock_resolution_ns
    return " ".join([LEAD, f"The clock resolves {number(resolution_ns)} ns.", *record.notes])


def instrument_rows(record: RunRecord) -> list[tuple[str, ...]]:
    """A row a workload and kind of model, in the order of :data:`INSTRUMENT_COLUMNS`."""
    if record.calibration is None:
        return []
    rows = record.calibration.rows
    several = len({row.models for row in rows}) > 1
    return [_row(row, several=several) for row in rows]


def _row(row: CalibrationRow, *, several: bool) -> tuple[str, ...]:
    whose = f"{', '.join(row.models)}: " if several else ""
    protocol = {"http": "HTTP", "grpc": "gRPC"}.get(row.protocol, row.protocol)
    return (
        f"{whose}{protocol}, client batch {row.batch_size}",
        number(row.ceiling_rps),
        number(row.ceiling_users),
        number(row.client_cpu_ms),
        number(row.own_ms),
        number(row.sleep_excess_ms),
        number(row.users),
        number(row.in_flight),
        "proved" if row.proved else f"only {percent(row.in_flight / row.users)}",
    )
