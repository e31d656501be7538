"""The quickest of several calls for a model's statistics. Windows between two are in test_servers_control.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tritonclient.grpc import service_pb2 as pb

from harness import snapshot
from harness.snapshot import QUICK_NS, quickest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("calls_ms", "asked", "kept"),
    [
        ((2, 1, 1), 1, 0),
        ((10, 1, 1), 1, 0),
        ((30, 5, 1), 2, 1),
        ((30, 20, 40, 1), 3, 1),
        ((30, 30, 30, 1), 3, 0),
    ],
)
def test_the_quickest_of_up_to_three_calls_is_kept_and_it_alone_is_read(
    monkeypatch: pytest.MonkeyPatch, calls_ms: tuple[int, ...], asked: int, kept: int
) -> None:
    assert QUICK_NS == 10_000_000
    now_ns = 0
    numbers: Iterator[int] = iter(range(len(calls_ms)))
    answers: list[int] = []
    read: list[int] = []

    def ask() -> int:
        nonlocal now_ns
        answers.append(next(numbers))
        now_ns += calls_ms[answers[-1]] * 1_000_000
        return answers[-1]

    def message(answer: int) -> pb.ModelStatisticsResponse:
        nonlocal now_ns
        now_ns += 1_000_000_000  # reading it is no part of the call
        read.append(answer)
        made = pb.ModelStatisticsResponse()
        made.model_stats.add(name="m", version="1", inference_count=100 + answer)
        return made

    monkeypatch.setattr(snapshot.time, "monotonic_ns", lambda: now_ns)
    best = quickest(ask, message)
    assert answers == list(range(asked))
    assert read == [kept]
    assert best.counts["inference_count"] == 100 + kept
    assert best.before_ns == sum(calls_ms[:kept]) * 1_000_000
    assert best.after_ns == sum(calls_ms[: kept + 1]) * 1_000_000
