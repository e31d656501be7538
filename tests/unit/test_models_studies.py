from __future__ import annotations

import math

import pytest

from harness.errors import EnvironmentFailedError, UsageError
from harness.models import measured_fit
from harness.models.settings import Settings
from harness.models.studies import STUDIES, check_study, describe_curve

CHANCE = math.log(10)


@pytest.mark.parametrize(
    ("losses", "word"),
    [
        ([2.29, 2.28, 2.27, 2.26, 2.25, 2.24], "crawls"),
        ([2.0, 1.0, 0.5, 0.3, 0.2, 0.15], "learns"),
        # One rise of a tenth does not make an oscillation.
        ([2.0, 1.0, 0.5, 0.55, 0.2, 0.15], "learns"),
        ([2.0, 0.5, 0.8, 0.4, 0.6, 0.3], "oscillates"),
        # Falls steeply at last, but jumped about before.
        ([1.0, 0.1, 0.2, 0.05, 0.1, 0.01], "oscillates"),
        ([2.304, 2.303, 2.304, 2.303, 2.303, 2.303], "does not learn"),
        # Falls all the way, from far above, to no better than a blind guess.
        ([40.0, 20.0, 10.0, 5.0, 3.0, 2.4], "does not learn"),
        ([2.0, 1.0, math.nan, math.nan], "does not learn"),
        ([2.0, math.inf], "does not learn"),
        ([0.4], "learns"),
    ],
)
def test_a_curve_in_a_word(losses: list[float], word: str) -> None:
    assert describe_curve(losses, CHANCE) == word


def test_an_unknown_study_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(UsageError, match="batch-size, learning-rate, regularisation"):
        check_study("momentum")
    for name in STUDIES:
        check_study(name)


def test_one_epoch_cannot_be_timed() -> None:
    with pytest.raises(UsageError, match=r"--epochs: the first epoch builds .* Give at least 2"):
        check_study("batch-size", 1)
    check_study("batch-size", 2)
    check_study("learning-rate", 1)


def test_a_fit_that_does_not_end_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_fit, "LIMIT_S", 0.01)
    with pytest.raises(
        EnvironmentFailedError, match=r"batch size 32: the fit did not end within 0\.01 s"
    ):
        measured_fit.measure_fit(Settings(batch_size=32))
