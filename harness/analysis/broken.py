"""Trials that broke: which of them were made good by repeating them, and what is said of those.

A trial that broke is repeated once, at once and in the same pass. Where that has worked, the point has all of
its passes and is as good as one of a run without the fault; that something broke is still said.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.records import LOG_ENDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.records import TrialRecord

__all__ = ["cause_of", "lasting", "repetitions"]


def lasting(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those that broke, and that nothing has made good."""
    repeated = {trial.index for trial in _made_good(trials)}
    return [trial for trial in trials if not trial.whole and trial.index not in repeated]


def _made_good(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those that broke, and of which a later trial of the same point, pass and role is whole."""
    last = {_place(trial): trial.index for trial in trials if trial.whole}
    return [
        trial for trial in trials if not trial.whole and trial.index < last.get(_place(trial), -1)
    ]


def _place(trial: TrialRecord) -> tuple[object, ...]:
    return trial.role, trial.point, trial.pass_index


def repetitions(trials: Sequence[TrialRecord]) -> Iterator[str]:
    """One sentence where trials broke and were made good: how many, and the most frequent cause."""
    repeated = _made_good(trials)
    if repeated:
        count = len(repeated)
        counted = "1 trial broke and was" if count == 1 else f"{count} trials broke and were"
        yield f"{counted} repeated: {cause_of(repeated)}"


def cause_of(broken: Iterable[TrialRecord]) -> str:
    """Why trials broke, in one line without the server's log: the most frequent cause, and how many others."""
    (cause, _), *others = Counter(_cause(trial) for trial in broken).most_common()
    return f"{cause} (and {len(others)} more)" if others else cause


def _cause(trial: TrialRecord) -> str:
    lines = (trial.failure or "it has no window").splitlines()
    return lines[0].removesuffix(LOG_ENDS).rstrip(" ;.:")
