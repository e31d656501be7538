"""Control groups, from trees of files as the kernel shows them, and from what Docker answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.servers.readings.cgroup import ContainerUsage, find_control_group, from_engine

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_2(tmp_path: Path) -> None:
    write(tmp_path / "proc/42/cgroup", "0::/system.slice/docker-abc.scope\n")
    group = tmp_path / "cgroup/system.slice/docker-abc.scope"
    write(group / "cpu.stat", "usage_usec 1500000\nuser_usec 1000000\nnr_periods 0\n")
    write(group / "memory.current", "5000\n")
    write(group / "memory.stat", "anon 3000\nfile 2000\ninactive_file 1200\n")
    found = find_control_group(42, tmp_path / "cgroup", tmp_path / "proc")
    assert found is not None
    assert found.read() == [
        ("container_cpu_seconds", "{}", 1.5),
        ("container_memory_bytes", "{}", 3800.0),
    ]


@pytest.mark.parametrize("mount", ["cpuacct", "cpu,cpuacct"])
def test_version_1(tmp_path: Path, mount: str) -> None:
    write(
        tmp_path / "proc/42/cgroup",
        "9:name=systemd:/docker/abc\n4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n",
    )
    write(tmp_path / f"cgroup/{mount}/docker/abc/cpuacct.usage", "2500000000\n")
    memory = tmp_path / "cgroup/memory/docker/abc"
    write(memory / "memory.usage_in_bytes", "9000\n")
    write(memory / "memory.stat", "inactive_file 1\ntotal_inactive_file 4000\n")
    found = find_control_group(42, tmp_path / "cgroup", tmp_path / "proc")
    assert found is not None
    assert [value for _, _, value in found.read()] == [2.5, 5000]


def test_the_whole_machine_is_no_container(tmp_path: Path) -> None:
    write(tmp_path / "proc/42/cgroup", "4:memory:/\n2:cpuacct:/\n0::/\n")
    write(tmp_path / "cgroup/cpuacct/cpuacct.usage", "1\n")
    write(tmp_path / "cgroup/memory/memory.usage_in_bytes", "1\n")
    write(tmp_path / "cgroup/memory/memory.stat", "total_inactive_file 0\n")
    write(tmp_path / "cgroup/cpu.stat", "usage_usec 1\n")
    write(tmp_path / "cgroup/memory.current", "1\n")
    write(tmp_path / "cgroup/memory.stat", "inactive_file 0\n")
    assert find_control_group(42, tmp_path / "cgroup", tmp_path / "proc") is None


def test_where_its_files_are_not_seen_the_engine_is_asked(tmp_path: Path) -> None:
    write(tmp_path / "proc/42/cgroup", "0::/../outside\n")
    assert find_control_group(42, tmp_path / "cgroup", tmp_path / "proc") is None
    assert find_control_group(43, tmp_path / "cgroup", tmp_path / "proc") is None
    usage = ContainerUsage(None, lambda: ENGINE)
    assert [value for _, _, value in usage.read()] == [3.25, 600]


# The parts that matter of Docker's answer, with control groups of version 2.
ENGINE = {
    "cpu_stats": {"cpu_usage": {"total_usage": 3_250_000_000, "usage_in_usermode": 1}},
    "memory_stats": {"usage": 1000, "stats": {"inactive_file": 400, "anon": 500}},
}


def test_of_a_container_that_has_ended_nothing_is_known() -> None:
    with pytest.raises(KeyError):
        from_engine({"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}})
