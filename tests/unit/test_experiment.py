from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness import experiment, interrupt
from harness.analysis import analyse
from harness.errors import EnvironmentFailedError
from tests.runs import write_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runs import Measured


def test_an_interrupt_within_an_order_to_the_generator_is_no_broken_bench(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The generator is given up then, and its death is what the orders after it say."""

    def interrupted(*_: object) -> None:
        monkeypatch.setattr(interrupt._State, "interrupted", True)
        raise EnvironmentFailedError("the load generator is no longer connected")

    monkeypatch.setattr(experiment, "calibrate", interrupted)
    offers = SimpleNamespace(model_control=True, statistics=True)
    failure = "the load generator ended with status 0"
    bench = SimpleNamespace(
        server=SimpleNamespace(offers=offers), confirmed_failure=lambda: failure
    )
    sweep = SimpleNamespace(most_users=lambda open_loop: min(4, open_loop))
    plan = SimpleNamespace(
        points=(), models={"m": None}, notes=(), scenario=SimpleNamespace(sweep=sweep)
    )
    with pytest.raises(KeyboardInterrupt):
        experiment._calibrate(cast("Any", plan), cast("Any", bench), again=True)


def test_the_progress_shows_the_p99_of_the_report(tmp_path: Path) -> None:
    shown = []

    def show(measured: Measured) -> Measured:
        progress = experiment._progress(cast("Any", measured), 1, 3, time.monotonic())
        shown.append(progress.p99_ms)
        return measured

    text = "model: cnn\nsweep: {concurrency: [4]}\nmeasure: {window: 1s, passes: 3}\n"
    told = analyse(write_run(tmp_path, text, alter=show)).trials["latency_ms_p99"]
    assert shown == pytest.approx(told.tolist(), rel=1e-9)
