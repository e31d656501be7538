from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import EnvironmentFailedError
from harness.servers.embedded import memory
from harness.servers.embedded.memory import Cgroup, MemoryLimit, find_cgroup, limited

if TYPE_CHECKING:
    from pathlib import Path

CGROUP_V1 = "36 25 0:31 {root} {point} rw,relatime - cgroup cgroup rw,memory\n"
CGROUP_V2 = "30 23 0:26 {root} {point} rw,relatime - cgroup2 cgroup2 rw\n"


def system(folder: Path, groups: str, *mounts: str) -> Path:
    """A ``/proc/self`` that says so."""
    proc = folder / "self"
    proc.mkdir()
    (proc / "cgroup").write_text(groups)
    (proc / "mountinfo").write_text("25 1 8:1 / / rw - ext4 /dev/sda rw\n" + "".join(mounts))
    return proc


def group(folder: Path, controllers: str, handed_on: str = "", limit: str | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.subtree_control").write_text(handed_on)
    if limit:
        (folder / "memory.max").write_text(limit)
    return folder


def test_in_v1_a_group_comes_below_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "memory" / "user" / "me"
    own.mkdir(parents=True)
    proc = system(
        tmp_path,
        "4:memory:/user/me\n1:cpu:/\n0::/\n",
        CGROUP_V1.format(root="/", point=tmp_path / "memory"),
        CGROUP_V2.format(root="/", point=tmp_path),
    )
    assert find_cgroup(proc) == Cgroup(1, own, own)


def test_in_a_container_paths_begin_above_what_is_mounted(tmp_path: Path) -> None:
    own = tmp_path / "memory"
    own.mkdir()
    mount = CGROUP_V1.format(root="/docker/abc", point=own)
    proc = system(tmp_path, "4:memory:/docker/abc\n", mount)
    assert find_cgroup(proc).own == own


def test_in_v2_a_group_comes_where_the_controller_is_handed_on(tmp_path: Path) -> None:
    top = group(tmp_path / "cgroup", "cpu memory", "memory")
    slice_ = group(top / "user.slice", "cpu memory", "cpu memory", "max")
    own = group(slice_ / "session.scope", "cpu memory", "", "max")
    proc = system(tmp_path, "0::/user.slice/session.scope\n", CGROUP_V2.format(root="/", point=top))
    assert find_cgroup(proc) == Cgroup(2, slice_, own)


def test_nobody_gets_out_of_a_limit_that_is_there(tmp_path: Path) -> None:
    top = group(tmp_path / "cgroup", "memory", "memory")
    group(top / "own", "memory", "", "1000000")
    proc = system(tmp_path, "0::/own\n", CGROUP_V2.format(root="/", point=top))
    with pytest.raises(OSError, match="own control group has a limit"):
        find_cgroup(proc)


@pytest.mark.parametrize(
    ("controllers", "reason"),
    [("cpu", "not handed on to this user"), ("cpu memory", "no control group above")],
)
def test_a_controller_that_nobody_hands_on(tmp_path: Path, controllers: str, reason: str) -> None:
    top = group(tmp_path / "cgroup", controllers)
    proc = system(tmp_path, "0::/\n", CGROUP_V2.format(root="/", point=top))
    with pytest.raises(OSError, match=reason):
        find_cgroup(proc)


def test_no_controller_at_all(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no memory controller is mounted"):
        find_cgroup(system(tmp_path, "0::/\n"))


@pytest.mark.parametrize(
    ("how", "name"), [("cgroup v2", "memory.events"), ("cgroup v1", "memory.oom_control")]
)
def test_the_kernels_victims_are_counted(tmp_path: Path, how: str, name: str) -> None:
    limit = MemoryLimit(1 << 20, how, tmp_path, tmp_path)  # type: ignore[arg-type]
    assert limit.killed() == 0
    (tmp_path / name).write_text("under_oom 0\noom 7\noom_kill 2\n")
    assert limit.killed() == 2


def nowhere() -> Cgroup:
    raise OSError("no memory controller is mounted")


def test_without_a_group_address_space_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "find_cgroup", nowhere)
    with limited(4 << 30, "any", lambda _: None) as limit:
        assert limit is not None
        assert limit.describe() == {"bytes": 4 << 30, "how": "address space"}
        assert limit.task() == {"address_space": 4 << 30}
        assert limit.killed() == 0


def test_a_limit_that_cannot_be_held_is_refused_with_both_reasons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "find_cgroup", nowhere)
    with (
        pytest.raises(EnvironmentFailedError) as caught,
        limited(512 << 20, "any", lambda _: None),
    ):
        pass
    assert str(caught.value).startswith(
        "server.memory: a limit of 512 MiB cannot be held: no control group can be made"
        " (no memory controller is mounted), and as a limit on address space a server needs at least"
    )


def test_no_limit_is_none() -> None:
    with limited(None, "any", lambda _: None) as limit:
        assert limit is None
