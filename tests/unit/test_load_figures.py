from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from harness.load.byhand.figures import tell
from harness.point import ClosedLoad, Workload
from harness.records import SAMPLE_DTYPE

if TYPE_CHECKING:
    import pytest


def told(caplog: pytest.LogCaptureFixture, requests: int, slow: int = 0) -> str:
    """What is said of a second with so many requests of 5 ms each, but for ``slow`` ones of 105 ms."""
    level = SimpleNamespace(workload=Workload(), load=ClosedLoad(concurrency=2), reasons={})
    samples = np.zeros(requests, SAMPLE_DTYPE)
    samples["done_ns"] = np.linspace(10**9, 2 * 10**9 - 1, requests)
    samples["scheduled_ns"] = samples["sent_ns"] = samples["done_ns"] - 5_000_000
    samples["scheduled_ns"][:slow] -= 100_000_000
    samples["batch"] = 1
    with caplog.at_level(logging.INFO):
        tell(cast("Any", level), samples, (10**9, 2 * 10**9))
    return caplog.messages[-1]


def test_a_percentile_is_said_of_enough_requests_only(caplog: pytest.LogCaptureFixture) -> None:
    start = "HTTP, client batch 1, c2: "
    assert told(caplog, 459) == (
        f"{start}459 inferences per second, p50 5.00 ms, p99 5.00 ms, of one window and so without intervals;"
        " 0 of 459 requests failed"
    )
    assert "p50 5.00 ms, p99 needs 459 right answers," in told(caplog, 458)
    assert "p50 needs 7 right answers," in told(caplog, 6)


def test_a_percentile_is_one_of_the_latencies_as_in_the_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert "p99 5.00 ms," in told(caplog, 500, slow=5)
    assert "p99 105.00 ms," in told(caplog, 500, slow=6)
