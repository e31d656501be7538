"""RAPL, from a tree of files as Linux shows it: no machine that these tests run on may have it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.servers.readings.energy import find_rapl

if TYPE_CHECKING:
    from pathlib import Path


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = 1_000_000) -> Path:
    path = root / folder
    path.mkdir()
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    return path / "energy_uj"


def test_packages_and_memory_count_once(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 500_000)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 100_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl:1", "psys", 1)
    rapl = find_rapl(tmp_path)
    assert rapl is not None
    assert [value for _, _, value in rapl.read()] == [0, 0]
    package.write_text("750000\n")
    memory.write_text("100500\n")
    assert {json.loads(labels)["name"]: (name, value) for name, labels, value in rapl.read()} == {
        "package-0": ("rapl_energy_joules", 0.25),
        "dram": ("rapl_energy_joules", 0.0005),
    }


def test_a_counter_that_starts_again_goes_on(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    rapl = find_rapl(tmp_path)
    assert rapl is not None
    seen = []
    for energy_uj in (950_000, 20_000, 990_000, 10_000):
        counter.write_text(str(energy_uj))
        seen.append(rapl.read()[0][2])
    assert seen == pytest.approx([0.05, 0.12, 1.09, 1.11])


def test_what_cannot_be_read_is_not_there(tmp_path: Path) -> None:
    assert find_rapl(tmp_path / "none") is None
    assert find_rapl(tmp_path) is None
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    counter.unlink()
    counter.mkdir()  # root may read any file
    assert find_rapl(tmp_path) is None


def test_a_counter_that_goes_away_is_an_error_and_not_zero(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    rapl = find_rapl(tmp_path)
    assert rapl is not None
    counter.unlink()
    with pytest.raises(FileNotFoundError):
        rapl.read()
