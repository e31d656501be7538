"""When requests are due in an open loop: arrival times by inversion of the cumulative rate.

If Λ(t) is the integral of the rate, and S the sum of n gaps of mean 1, then the n-th arrival falls at
Λ⁻¹(S): with equal gaps arrivals follow the rate exactly, with exponential gaps they make a
non-homogeneous Poisson process of that rate (Çinlar, *Introduction to Stochastic Processes*, 1975, ch. 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = [
    "Arrivals",
    "Gaps",
    "Profile",
    "Replay",
    "Schedule",
    "Segment",
    "Times",
    "Until",
    "steady",
]

Gaps = Literal["poisson", "constant"]
CHUNK = 4096


@dataclass(frozen=True)
class Segment:
    """A stretch of time with a rate that changes linearly, in requests per second."""

    duration_s: float
    rate_start: float
    rate_end: float


@dataclass(frozen=True)
class Profile:
    """A rate over time: segments one after the other; the last rate holds for ever, or all repeats.

    Steps are segments of constant rate, a ramp is one segment, a spike three, a burst two that repeat.

    Raises:
        UsageError: a rate below zero, a duration not above zero, or nothing ever due.
    """

    segments: tuple[Segment, ...]
    repeat: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no profile."""
        for segment in self.segments:
            if not 0 < segment.duration_s < math.inf:
                raise UsageError(f"a duration of {segment.duration_s:g} s: expected more than 0")
            if not (0 <= segment.rate_start < math.inf and 0 <= segment.rate_end < math.inf):
                raise UsageError("a rate below zero or beyond all bounds")
        if not self.segments or not any(s.rate_start or s.rate_end for s in self.segments):
            raise UsageError("a rate profile in which no request is ever due")

    def inverse(self, counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The earliest times, in seconds, by which so many requests are due on average.

        Args:
            counts: rising, not below 0; shape (arrivals,).

        Returns:
            Shape (arrivals,); ``inf`` where so many never become due.
        """
        durations = np.array([s.duration_s for s in self.segments])
        first = np.array([s.rate_start for s in self.segments])
        slope = np.array([s.rate_end - s.rate_start for s in self.segments]) / durations
        ends = np.concatenate([[0.0], np.cumsum(durations)])
        due = np.concatenate([[0.0], np.cumsum(durations * (first + slope * durations / 2))])
        rounds = np.maximum(np.ceil(counts / due[-1]) - 1, 0) if self.repeat else 0 * counts
        left = counts - rounds * due[-1]
        # Where nothing is due for a while, what is due falls before that.
        place = np.clip(np.searchsorted(due, left, side="left") - 1, 0, len(durations) - 1)
        # Within a segment: first·x + slope·x²/2 = wanted, in the form that never cancels.
        wanted = left - due[place]
        root = np.sqrt(np.maximum(first[place] ** 2 + 2 * slope[place] * wanted, 0.0))
        denominator = first[place] + root
        within = np.divide(
            2 * wanted, denominator, out=np.zeros_like(wanted), where=denominator > 0
        )
        times = rounds * ends[-1] + ends[place] + np.minimum(within, durations[place])
        if not self.repeat:
            beyond = counts > due[-1]
            last = self.segments[-1].rate_end
            after = (counts[beyond] - due[-1]) / last if last else np.inf
            times[beyond] = ends[-1] + after
        return np.asarray(times, dtype=np.float64)


def steady(rate: float) -> Profile:
    """One rate for ever.

    Raises:
        UsageError: it is not above zero.
    """
    if not rate > 0:
        raise UsageError(f"a rate of {rate:g} requests per second: expected more than 0")
    return Profile((Segment(1.0, rate, rate),))


class Times(Protocol):
    """Where a schedule gets its arrival times from."""

    def chunks(self) -> Iterator[npt.NDArray[np.float64]]:
        """Arrival times in seconds from the start, rising, a few thousand at a time."""


@dataclass(frozen=True)
class Arrivals:
    """Arrivals of a profile, with equal or exponential gaps, seeded."""

    profile: Profile
    gaps: Gaps
    seed: int

    def chunks(self) -> Iterator[npt.NDArray[np.float64]]:
        """As :meth:`Times.chunks`; ends where the profile does."""
        rng = np.random.default_rng(self.seed)
        total = 0.0
        while True:
            gaps = rng.exponential(size=CHUNK) if self.gaps == "poisson" else np.ones(CHUNK)
            counts = total + np.cumsum(gaps)
            total = float(counts[-1])
            times = self.profile.inverse(counts)
            finite = times[np.isfinite(times)]
            if len(finite):
                yield finite
            if len(finite) < len(times):
                return


@dataclass(frozen=True)
class Replay:
    """Arrivals at given times, such as a log's.

    Attributes:
        times_s: seconds from the start, rising.

    Raises:
        UsageError: none, unsorted, negative or not finite.
    """

    times_s: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what is no series of arrivals."""
        times = np.asarray(self.times_s, dtype=np.float64)
        if not len(times):
            raise UsageError("the replay holds no arrival times")
        if not np.isfinite(times).all() or (times < 0).any():
            raise UsageError("the replay holds a time that is negative or no number")
        if (np.diff(times) < 0).any():
            where = int(np.argmax(np.diff(times) < 0)) + 2
            raise UsageError(f"the replay's times are not sorted: number {where} is too early")

    def chunks(self) -> Iterator[npt.NDArray[np.float64]]:
        """As :meth:`Times.chunks`."""
        times = np.asarray(self.times_s, dtype=np.float64)
        for start in range(0, len(times), CHUNK):
            yield times[start : start + CHUNK]


@dataclass(frozen=True)
class Until:
    """Other times, up to an end and not beyond it."""

    times: Times
    end_s: float

    def chunks(self) -> Iterator[npt.NDArray[np.float64]]:
        """As :meth:`Times.chunks`."""
        end_s = self.end_s * (
            1 + 1e-12
        )  # what is due at the end itself must not be lost to rounding
        for times in self.times.chunks():
            kept = times[times <= end_s]
            if len(kept):
                yield kept
            if len(kept) < len(times):
                return


class Schedule:
    """Arrival times that are taken one by one; only those not yet taken are kept.

    Args:
        times: where they come from.
        start_ns: CLOCK_MONOTONIC that they count from.
    """

    def __init__(self, times: Times, start_ns: int) -> None:
        self._chunks = times.chunks()
        self._start_ns = start_ns
        self._waiting: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._place = 0
        self._exhausted = False

    def next_ns(self) -> int | None:
        """When the next request is due, CLOCK_MONOTONIC in ns; ``None`` after the last."""
        while self._place == len(self._waiting):
            fresh = self._following()
            if fresh is None:
                return None
            self._waiting, self._place = fresh, 0
        return int(self._waiting[self._place])

    def take(self) -> None:
        """Take the next request off the schedule."""
        self._place += 1

    def untaken(self, start_ns: int, end_ns: int) -> int:
        """How many requests are due from ``start_ns`` up to ``end_ns`` and not taken."""
        waiting = [self._waiting[self._place :]]
        while not len(waiting[-1]) or waiting[-1][-1] < end_ns:
            fresh = self._following()
            if fresh is None:
                break
            waiting.append(fresh)
        self._waiting, self._place = np.concatenate(waiting), 0
        return int(((self._waiting >= start_ns) & (self._waiting < end_ns)).sum())

    def _following(self) -> npt.NDArray[np.int64] | None:
        """The next chunk of the schedule, CLOCK_MONOTONIC in ns; ``None`` after the last."""
        times_s = None if self._exhausted else next(self._chunks, None)
        if times_s is None:
            self._exhausted = True
            return None
        return self._start_ns + np.rint(times_s * 1e9).astype(np.int64)
