from __future__ import annotations

import pyarrow as pa
import pytest

from harness.analysis.usage import GENERATOR, SERVER, usage
from harness.records import TELEMETRY_COLUMNS

S = 1_000_000_000


def telemetry(*rows: tuple[float, str, int, float, int]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * 5
    columns[0] = tuple(round(moment * S) for moment in columns[0])
    types = (pa.int64(), pa.string(), pa.int64(), pa.float64(), pa.int64())
    return pa.table(
        {
            name: pa.array(column, kind)
            for name, column, kind in zip(TELEMETRY_COLUMNS, columns, types, strict=True)
        }
    )


def test_cpu_is_interpolated_at_the_edges_of_the_window() -> None:
    # 0.5 cores up to 1.5 s, 1 core from then on
    table = telemetry(
        *[(t / 2, "server", 1, 7 + 0.25 * t + 0.25 * max(0, t - 3), 10) for t in range(9)]
    )
    seen = usage(table, SERVER, round(0.75 * S), round(2.25 * S))
    assert seen is not None
    assert seen.cores == pytest.approx((0.75 * 0.5 + 0.75 * 1.0) / 1.5)


def test_the_server_is_its_process_and_its_stubs() -> None:
    table = telemetry(
        *[(t, "server", 1, 0.1 * t, 100) for t in range(4)],
        *[(t, "stub", 2, 0.8 * t, 50 + t) for t in range(4)],
        *[(t, "stub", 3, 0.4 * t, 20) for t in range(4)],
        *[(t, "generator", 4, 0.3 * t, 5) for t in range(4)],
        *[(t, "host", 0, 1.9 * t, 999) for t in range(4)],
    )
    server, client = usage(table, SERVER, 0, 2 * S), usage(table, GENERATOR, 0, 2 * S)
    assert server is not None
    assert client is not None
    assert server.cores == pytest.approx(1.3)
    assert server.rss_bytes == 100 + 52 + 20
    assert client.cores == pytest.approx(0.3)


def test_a_stub_that_appears_within_the_window_counts_from_nothing() -> None:
    table = telemetry(
        *[(t, "server", 1, 5.0, 100) for t in range(5)],
        (2, "stub", 2, 0.4, 50),
        (3, "stub", 2, 1.4, 50),
        (4, "stub", 2, 2.4, 50),
    )
    seen = usage(table, SERVER, 1 * S, 3 * S)
    assert seen is not None
    assert seen.cores == pytest.approx(1.4 / 2)


def test_a_process_that_appears_after_the_window_counts_for_nothing() -> None:
    table = telemetry(
        *[(t, "server", 1, 5.0 + 0.2 * t, 100) for t in range(6)],
        (4, "stub", 2, 30.0, 50),
        (5, "stub", 2, 31.0, 50),
    )
    seen = usage(table, SERVER, 1 * S, 3 * S)
    assert seen is not None
    assert seen.cores == pytest.approx(0.2)
    assert seen.rss_bytes == 100


def test_what_is_read_first_within_the_window_was_there_before() -> None:
    """The readings of one sweep are some microseconds apart."""
    table = telemetry(
        *[(0.4 + 0.1 * t, "server", 1, 900 + 0.02 * t, 100) for t in range(9)],
        *[(0.40001 + 0.1 * t, "stub", 2, 4000 + 0.08 * t, 50) for t in range(9)],
    )
    seen = usage(table, SERVER, 0, 1 * S)
    assert seen is not None
    assert seen.cores == pytest.approx(1.0, rel=0.01)


def test_a_process_that_ends_within_the_window_counts_up_to_its_last_reading() -> None:
    table = telemetry(
        *[(t, "server", 1, 5.0, 100) for t in range(5)],
        (0, "stub", 2, 1.0, 50),
        (1, "stub", 2, 2.0, 50),
        (2, "stub", 2, 3.0, 50),
    )
    seen = usage(table, SERVER, 1 * S, 4 * S)
    assert seen is not None
    assert seen.cores == pytest.approx(1.0 / 3)


def test_without_enough_readings_nothing_is_said() -> None:
    assert usage(telemetry(), SERVER, 0, S) is None
    assert usage(telemetry((0.5, "server", 1, 1.0, 1)), SERVER, 0, S) is None
    short = telemetry((0.0, "server", 1, 1.0, 1), (0.4, "server", 1, 1.4, 1))
    assert usage(short, SERVER, 0, S) is None
    assert usage(short, GENERATOR, 0, round(0.4 * S)) is None


def test_readings_over_most_of_the_window_are_enough() -> None:
    table = telemetry((0.2, "server", 1, 1.0, 1), (0.9, "server", 1, 1.7, 1))
    seen = usage(table, SERVER, 0, S)
    assert seen is not None
    assert seen.cores == pytest.approx(1.0)
