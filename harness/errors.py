"""The exceptions a user may meet: what happened, where, what to do, and the exit code."""

from __future__ import annotations

__all__ = [
    "EnvironmentFailedError",
    "HarnessError",
    "InterruptedRunError",
    "MeasurementError",
    "NothingMeasuredError",
    "UsageError",
]


class HarnessError(Exception):
    """An error with a sentence for the user, and nothing else to show.

    Args:
        what: what happened, one sentence without a full stop at the end.
        where: the file, line, key or process it happened at; ``None`` where there is no such place.
        remedy: what the user can do about it, one sentence in the imperative.
    """

    exit_code = 3

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        """Return ``where: what. Remedy.`` with the parts that are there."""
        sentence = f"{self.where}: {self.what}" if self.where else self.what
        sentence = sentence.rstrip(".") + "."
        if self.remedy is None:
            return sentence
        stop = "" if self.remedy.endswith((".", "?")) else "."
        return f"{sentence} {self.remedy}{stop}"


class UsageError(HarnessError):
    """A command line, scenario, model or run directory that cannot be used as it is."""

    exit_code = 2


class NothingMeasuredError(UsageError):
    """A run directory without a trial of a point: it ended before anything was measured."""


class EnvironmentFailedError(HarnessError):
    """The environment failed: server, ports, missing library, no room on the disk."""

    exit_code = 3


class MeasurementError(HarnessError):
    """It was measured, but the answers were wrong or no point is valid."""

    exit_code = 4


class InterruptedRunError(HarnessError):
    """The user stopped the run; what was measured is kept."""

    exit_code = 130
