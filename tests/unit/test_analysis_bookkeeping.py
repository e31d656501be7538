"""How far the numbers of a point may be from each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.analysis import analyse
from harness.analysis.bookkeeping import users_at_work
from tests.runs import write_run

if TYPE_CHECKING:
    from harness.analysis.point_result import PointResult

USERS, PASSES = 8, 4
SCENARIO = f"""
model: cnn
sweep: {{concurrency: [{USERS}]}}
measure: {{window: 1s, passes: {PASSES}, seed: 7}}
"""


@pytest.fixture(scope="module")
def point(tmp_path_factory: pytest.TempPathFactory) -> PointResult:
    (result,) = analyse(write_run(tmp_path_factory.mktemp("run"), SCENARIO)).results
    return result


def books(point: PointResult, off: float, cycle_s: float | None = None) -> bool:
    """Whether users that are off by a share are as many as there should be, where a cycle takes so long."""
    seen = USERS * (1 + off)
    requests = point.requests if cycle_s is None else round(seen * point.window_s / cycle_s)
    found = users_at_work(replace(point, concurrency_seen=seen, requests=requests))
    assert found is not None
    assert found[0] == seen
    return found[1]


@pytest.mark.parametrize("sign", [1, -1])
def test_little_s_law_holds_to_three_percent(point: PointResult, sign: int) -> None:
    assert books(point, 0.0)
    assert books(point, sign * 0.029)
    assert not books(point, sign * 0.031)


@pytest.mark.parametrize("sign", [1, -1])
def test_where_windows_cut_long_cycles_a_cycle_over_the_root_of_the_passes_is_allowed(
    point: PointResult, sign: int
) -> None:
    # 200 ms of a second's window are cut, so 10 % for the mean of four.
    assert books(point, sign * 0.095, cycle_s=0.2)
    assert not books(point, sign * 0.105, cycle_s=0.2)
    # From 60 ms on it is more than 3 %.
    assert not books(point, sign * 0.031, cycle_s=0.059)
    assert books(point, sign * 0.031, cycle_s=0.064)
