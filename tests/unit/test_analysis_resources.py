from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.analysis import analyse
from harness.analysis.resources import resources_of
from harness.archive import create_run
from harness.point import ClosedLoad, Point, ServerConfiguration, Workload
from harness.records import SAMPLE_DTYPE, TrialRecord
from harness.report.resources import resource_panels
from harness.report.svg import StyleSheet
from tests.runs import write_run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.analysis.resources import Resources

S = 1_000_000_000
MIB = 1 << 20
Reading = tuple[int, str, int, float, int]


def trial(index: int) -> TrialRecord:
    return TrialRecord(
        index=index,
        pass_index=0,
        point=Point(
            configuration=ServerConfiguration(model="cnn"),
            workload=Workload(),
            load=ClosedLoad(concurrency=1),
        ),
        started_utc=datetime(2026, 1, 1, tzinfo=UTC),
        requested={},
        effective=None,
    )


def resources(tmp_path: Path, *trials: list[Reading]) -> Resources | None:
    run = create_run(tmp_path, "small")
    for index, readings in enumerate(trials):
        run.seal_trial(trial(index), np.zeros(0, SAMPLE_DTYPE), readings)
    return resources_of(run, run.trials())


def steady(start_s: int, end_s: int, leak_bytes_s: int = 0) -> list[Reading]:
    """A server at 0.5 cores, two stubs at 0.2, a generator at 0.1, a host at 1.5."""
    rows: list[Reading] = []
    for tenth in range(start_s * 10, end_s * 10):
        moment, s = 7 * S + tenth * S // 10, tenth / 10
        rows += [
            (moment, "server", 1, 3 + 0.5 * s, 100 * MIB + round(leak_bytes_s * s)),
            (moment, "stub", 2, 0.2 * s, 50 * MIB),
            (moment, "stub", 3, 0.2 * s, 30 * MIB),
            (moment, "generator", 4, 0.1 * s, 60 * MIB),
            (moment, "host", 0, 1.5 * s, 4000 * MIB),
        ]
    return rows


def test_cores_and_memory_are_those_of_every_role_from_the_first_trial_to_the_last(
    tmp_path: Path,
) -> None:
    seen = resources(tmp_path, steady(0, 20), steady(20, 40), steady(40, 60))
    assert seen is not None
    assert len(seen.minutes) == 59
    assert seen.minutes[-1] == pytest.approx(1.0, abs=0.02)
    for role, cores, memory in (
        ("server", 0.5, 100),
        ("stub", 0.4, 80),
        ("generator", 0.1, 60),
        ("host", 1.5, 4000),
    ):
        assert seen.cores[role] == pytest.approx(np.full(59, cores), rel=1e-6)
        assert seen.memory_bytes[role] == pytest.approx(np.full(59, memory * MIB), rel=1e-6)


def test_trials_without_readings_at_the_ends_leave_the_whole_time(tmp_path: Path) -> None:
    seen = resources(tmp_path, [], steady(0, 20), steady(20, 40), [])
    assert seen is not None
    assert len(seen.minutes) == 39
    assert seen.minutes[-1] == pytest.approx(40 / 60, abs=0.02)
    assert seen.cores["server"] == pytest.approx(np.full(39, 0.5), rel=1e-6)


def test_a_server_that_grows_is_seen_to_grow(tmp_path: Path) -> None:
    seen = resources(tmp_path, steady(0, 50, MIB), steady(50, 100, MIB))
    assert seen is not None
    growth = seen.growth["server"]
    assert growth.last_bytes - growth.first_bytes == pytest.approx(90 * MIB, rel=0.05)
    assert growth.over_s == pytest.approx(100, rel=0.02)
    assert seen.growth["generator"].first_bytes == seen.growth["generator"].last_bytes
    (_, memory) = resource_panels(seen, StyleSheet())
    assert "server 104" in memory.notes[0]


def test_a_server_that_was_started_anew_has_no_growth_and_costs_no_time(tmp_path: Path) -> None:
    first = steady(0, 20)
    second = [
        (moment, role, pid and pid + 10, cpu_s, memory)
        for moment, role, pid, cpu_s, memory in steady(60, 75)
    ]
    third = [
        (moment, role, pid and pid + 20, cpu_s, memory)
        for moment, role, pid, cpu_s, memory in steady(80, 100)
    ]
    seen = resources(tmp_path, first, second, third)
    assert seen is not None
    assert set(seen.growth) == {"host"}
    known = np.isfinite(seen.cores["server"])
    assert 40 <= np.count_nonzero(known) <= 60
    # At the edges of what was read a part holds a little less of one process than of the host.
    assert np.nanmedian(seen.cores["server"]) == pytest.approx(0.5, rel=0.02)


def test_a_role_that_was_not_seen_is_not_there_and_said_to_be_na(tmp_path: Path) -> None:
    remote = [row for row in steady(0, 20) if row[1] in {"generator", "host"}]
    seen = resources(tmp_path, remote)
    assert seen is not None
    assert set(seen.cores) == {"generator", "host"}
    cpu, memory = resource_panels(seen, StyleSheet())
    assert cpu.notes == ("Not seen, n/a: server, stubs.",)
    assert "server n/a" in memory.notes[0]


def test_without_telemetry_there_is_nothing_to_draw(tmp_path: Path) -> None:
    assert resources(tmp_path, [], []) is None
    assert resource_panels(None, StyleSheet()) == []


def test_one_reading_is_no_time(tmp_path: Path) -> None:
    assert resources(tmp_path, steady(0, 1)[:5]) is None


def test_an_analysis_has_them(tmp_path: Path) -> None:
    text = "model: cnn\nsweep: {concurrency: 4}\nmeasure: {window: 1s, passes: 3}\n"
    found = analyse(write_run(tmp_path, text)).resources
    assert found is not None
    assert set(found.cores) == {"server", "stub", "generator", "host"}


def test_a_long_run_is_reduced_to_few_numbers(tmp_path: Path) -> None:
    seen = resources(tmp_path, *[steady(start, start + 60) for start in range(0, 600, 60)])
    assert seen is not None
    assert len(seen.minutes) == 120
    assert seen.cores["stub"] == pytest.approx(np.full(120, 0.4), rel=1e-6)
