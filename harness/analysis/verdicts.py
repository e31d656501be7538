"""The verdicts that a point or a run may get. ``docs/verdicts.md`` explains each of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

__all__ = ["Finding", "RunVerdict", "Verdict", "percent"]


class Verdict(StrEnum):
    """What to think of a point. The worst comes first; a point has the first one that applies."""

    TRIAL_FAILED = "trial failed"
    WRONG_ANSWERS = "wrong answers"
    NOT_EFFECTIVE = "configuration not effective"
    ERRORS = "errors above the SLO"
    COUNTS_DISAGREE = "counts disagree with the server"
    GENERATOR_BOUND = "generator-bound"
    WINDOW_TOO_SHORT = "window shorter than the slowest request"
    UNSTEADY = "unsteady"
    TOO_FEW_SAMPLES = "too few samples"
    TELEMETRY_MISSING = "telemetry missing"
    VALID = "valid"


# One thing that speaks against a point, and how to say it.
Finding: TypeAlias = tuple[Verdict, str]


def percent(share: float, sign: str = "") -> str:
    """A share in words: ``0.25 %``, ``2.1 %``, ``34 %``; with ``sign="+"`` as a change."""
    digits = ".2g" if abs(share) < 0.1 else ".0f"
    return f"{share * 100:{sign}{digits}} %"


@dataclass(frozen=True)
class RunVerdict:
    """What to think of a run.

    Attributes:
        text: the verdict in words: ``valid``, or what is the matter first of all.
        valid: whether the run's answers can be relied on.
        exit_code: 0, or 4 where answers were wrong (those to sentinels too) or no point is valid.
        reasons: in words, the worst first; what is worth knowing of a valid run too.
    """

    text: str
    valid: bool
    exit_code: int
    reasons: tuple[str, ...] = ()
