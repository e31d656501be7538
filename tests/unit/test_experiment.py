from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness import experiment, interrupt
from harness.errors import EnvironmentFailedError


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
