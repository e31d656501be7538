"""What a run by hand writes down: of its surroundings, what they were before the load."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.archive import open_run
from harness.load.byhand import notebook as module
from harness.load.byhand.notebook import Notebook
from harness.load.target import Target
from harness.point import ClosedLoad, Workload
from harness.records import SAMPLE_DTYPE

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = Target(http="127.0.0.1:1", grpc=None, model="m")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says its name and configuration, and a host that is busier whenever it is asked."""

    def ask(_: str, path: str) -> dict[str, Any]:
        return {"max_batch_size": 8} if path.startswith("models/") else {"name": "triton"}

    load, revisions = count(0), count(0)
    monkeypatch.setattr(module, "ask", ask)
    monkeypatch.setattr(module, "host_facts", lambda: {"load_average_1m": float(next(load))})
    monkeypatch.setattr(module, "git_revision", lambda _: f"revision {next(revisions)}")


def test_host_and_revision_are_those_of_before_the_load(told: None, tmp_path: Path) -> None:
    path = tmp_path / "run"
    notebook = Notebook(path, "hand", NOBODY, request_timeout_s=1, seed=1)
    try:
        for _ in range(2):
            notebook.seal(
                Workload(),
                ClosedLoad(concurrency=1),
                np.empty(0, SAMPLE_DTYPE),
                generator=None,
                statistics=None,
                started_utc=datetime.now(UTC),
            )
    finally:
        notebook.close()
    run = open_run(path)
    record = run.record()
    assert [trial.pass_index for trial in run.trials()] == [0, 1]
    assert (record.status, record.planned_trials) == ("complete", 2)
    assert record.host == {"load_average_1m": 0.0}
    assert record.git_revision == "revision 0"
    assert record.packages
