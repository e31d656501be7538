from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from harness.errors import EnvironmentFailedError, UsageError
from harness.servers.control import reason_in_log
from harness.snapshot import COUNTS, Snapshot, difference, require_growth, take

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

counts = st.integers(0, 10**15)
snapshots = st.builds(dict, **dict.fromkeys(COUNTS, counts))
batches = st.dictionaries(st.integers(1, 128), st.integers(0, 10**9))


@given(snapshots, snapshots, batches, batches)
def test_a_window_is_what_was_added(
    first: dict[str, int], more: dict[str, int], earlier: dict[int, int], later: dict[int, int]
) -> None:
    sizes = earlier.keys() | later.keys()
    total = {size: earlier.get(size, 0) + later.get(size, 0) for size in sizes}
    last = {name: first[name] + more[name] for name in COUNTS}
    window = difference(
        Snapshot(1_000, 3_000, first, earlier), Snapshot(2_000_000, 2_005_000, last, total)
    )
    assert {name: getattr(window, name) for name in COUNTS} == more
    assert window.executed_batches == {size: n for size, n in later.items() if n}
    assert (window.start_ns, window.end_ns) == (2_000, 2_002_500)
    assert window.edge_error_ms == 2_500 / 1e6


@given(snapshots, st.sampled_from(COUNTS))
def test_counts_that_go_down_are_refused(values: dict[str, int], name: str) -> None:
    first = Snapshot(0, 1, values | {name: values[name] + 1}, {})
    with pytest.raises(EnvironmentFailedError, match=f"went down .*{name}"):
        difference(first, Snapshot(2, 3, values, {}))


def test_a_restart_between_two_windows_shows_in_the_counts() -> None:
    before = dict.fromkeys(COUNTS, 500)
    assert not any(
        require_growth(Snapshot(0, 1, before, {}), Snapshot(2, 3, before, {}))[0].values()
    )
    since = before | {"success_count": 20}
    with pytest.raises(EnvironmentFailedError, match=r"success_count.*or the server restarted"):
        require_growth(Snapshot(0, 1, before, {}), Snapshot(2, 3, since, {}))


def test_executions_that_go_down_are_refused() -> None:
    zero = dict.fromkeys(COUNTS, 0)
    with pytest.raises(EnvironmentFailedError, match="executions of 4"):
        difference(Snapshot(0, 1, zero, {4: 2}), Snapshot(2, 3, zero, {}))


def test_the_order_of_time_is_held() -> None:
    zero = dict.fromkeys(COUNTS, 0)
    with pytest.raises(UsageError, match="before the first"):
        difference(Snapshot(5, 6, zero, {}), Snapshot(2, 3, zero, {}))


def test_versions_of_a_model_are_added_up() -> None:
    answer = pb.ModelStatisticsResponse()
    for version in (1, 2):
        one = answer.model_stats.add(
            name="m", version=str(version), inference_count=10 * version, execution_count=version
        )
        one.inference_stats.queue.count = version
        one.inference_stats.queue.ns = 1_000 * version
        one.inference_stats.cache_hit.count = 5
        for size in (1, 8 * version):
            one.batch_stats.add(batch_size=size).compute_infer.count = 3
    seen = take(10, 20, answer)
    assert seen.edge_ns == 15
    assert seen.counts["inference_count"] == 30
    assert seen.counts["execution_count"] == 3
    assert (seen.counts["queue_count"], seen.counts["queue_ns"]) == (3, 3_000)
    assert seen.counts["cache_hit_count"] == 10
    assert seen.counts["success_ns"] == 0
    assert seen.executed_batches == {1: 6, 8: 3, 16: 3}


@pytest.mark.parametrize(("sizes", "count"), [((1,), 2**64 - 1), ((2**63,), 1), (range(20_000), 1)])
def test_statistics_that_cannot_be_are_refused(sizes: Iterable[int], count: int) -> None:
    answer = pb.ModelStatisticsResponse()
    one = answer.model_stats.add(name="m", version="1", inference_count=count)
    for size in sizes:
        one.batch_stats.add(batch_size=size).compute_infer.count = 1
    with pytest.raises(EnvironmentFailedError, match="make no sense"):
        take(10, 20, answer)


LOG = """\
I1123 23:55:05.443399 30939 model_lifecycle.cc:839] "successfully loaded 'sl'"
E1123 23:55:05.698551 30939 model_repository_manager.cc:1415] "failed to poll model 'nope'."
E1123 23:55:05.706695 30939 model_repository_manager.cc:1460] "Poll failed: bla: Cannot find field."
W1123 23:55:05.706695 30939 metrics.cc:1] "harmless"
"""


def test_the_reason_is_the_last_error_since_then(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(LOG)
    assert reason_in_log(log, 0) == "Poll failed: bla: Cannot find field"
    assert reason_in_log(log, len(LOG)) == ""
    assert reason_in_log(tmp_path / "none", 0) == ""
    assert reason_in_log(None, 0) == ""
    with log.open("a") as file:
        file.write("[libprotobuf ERROR /a/text_format.cc:337] Error parsing text-format X: 1:29\n")
        file.write('E1123 23:55:05.7 1 m.cc:1] "failed to read text proto"\n')
    assert reason_in_log(log, 0) == "Error parsing text-format X: 1:29"
