from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness import calibration
from harness.calibration import calibrate
from harness.errors import EnvironmentFailedError
from harness.point import Workload
from harness.records import CalibrationRow

TENSOR = {"name": "X", "data_type": "TYPE_FP32", "dims": [1]}
LARGE = {**TENSOR, "dims": [1000]}
TENSORS = {"cnn": TENSOR, "cnn_int8": TENSOR, "large": LARGE}


def bench(failure: str | None = None) -> Any:
    models = {
        name: SimpleNamespace(configuration={"max_batch_size": 8, "input": [x], "output": [x]})
        for name, x in TENSORS.items()
    }
    return SimpleNamespace(models=models, confirmed_failure=lambda: failure)


def row(models: tuple[str, ...]) -> CalibrationRow:
    return CalibrationRow(
        models=models, protocol="http", batch_size=1, ceiling_users=16, ceiling_rps=1e3,
        client_cpu_ms=0.1, null_ms_p50=0.4, own_ms=0.2, sleep_ms=5, sleep_excess_ms=0.3,
        sleep_sd_ms=0.1, users=4, in_flight=4.0,
    )  # fmt: skip


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The models in whose guise no probe is loaded."""
    names: set[str] = set()

    def rows(_: Any, models: tuple[str, ...], *_more: Any) -> list[CalibrationRow]:
        if names & set(models):
            raise EnvironmentFailedError("loading harness_probe: no")
        return [row(models)]

    monkeypatch.setattr(calibration, "_rows", rows)
    return names


def test_models_with_the_same_tensors_share_what_is_measured(refused: set[str]) -> None:
    assert not refused
    found, notes = calibrate(bench(), list(TENSORS), [Workload()], 4)
    assert [row.models for row in found.rows] == [("cnn", "cnn_int8"), ("large",)]
    assert not notes


def test_tensors_that_no_probe_takes_cost_the_others_nothing(refused: set[str]) -> None:
    refused.add("large")
    found, notes = calibrate(bench(), list(TENSORS), [Workload()], 4)
    assert [row.models for row in found.rows] == [("cnn", "cnn_int8")]
    assert notes == (
        "The instrument was not calibrated with the tensors of large: loading harness_probe: no.",
    )


@pytest.mark.parametrize(("names", "failure"), [({"cnn", "large"}, None), ({"large"}, "it died")])
def test_where_nothing_can_be_measured_it_says_so(
    refused: set[str], names: set[str], failure: str | None
) -> None:
    refused |= names
    with pytest.raises(EnvironmentFailedError, match="loading harness_probe: no"):
        calibrate(bench(failure), list(TENSORS), [Workload()], 4)
