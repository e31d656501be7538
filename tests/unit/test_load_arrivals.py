from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.errors import UsageError
from harness.load.arrivals import Arrivals, Profile, Replay, Schedule, Segment, steady

# Not 5e-324: what is due once in 1e300 years is beyond what a float counts.
rates = st.floats(1e-6, 1000) | st.just(0.0)
segments = st.builds(Segment, st.floats(0.01, 100), rates, rates)


def first(times: Arrivals | Replay, count: int) -> np.ndarray:
    return np.array(list(itertools.islice(itertools.chain.from_iterable(times.chunks()), count)))


def due(profile: Profile, time_s: float) -> float:
    """Λ(t), added up segment by segment with the trapezoid rule, which is exact for straight lines."""
    total, left = 0.0, time_s
    parts = itertools.cycle(profile.segments) if profile.repeat else iter(profile.segments)
    for part in parts:
        x = min(left, part.duration_s)
        rate = part.rate_start + (part.rate_end - part.rate_start) * x / part.duration_s
        total += x * (part.rate_start + rate) / 2
        left -= x
        if left <= 0:
            return total
    return total + left * profile.segments[-1].rate_end


@given(st.lists(segments, min_size=1, max_size=4), st.booleans(), st.floats(0, 300))
def test_the_inverse_inverts(parts: list[Segment], repeat: bool, time_s: float) -> None:
    if not any(max(p.rate_start, p.rate_end) > 1e-3 for p in parts):
        return
    profile = Profile(tuple(parts), repeat)
    count = due(profile, time_s)
    found = float(profile.inverse(np.array([count]))[0])
    # Where the rate is zero for a while many times are right; so it is the count that must agree.
    if math.isfinite(found):
        assert due(profile, found) == pytest.approx(count, rel=1e-6, abs=1e-6)
    else:
        assert profile.segments[-1].rate_end == 0


def test_equal_gaps() -> None:
    np.testing.assert_allclose(first(Arrivals(steady(4), "constant", 1), 8), np.arange(1, 9) / 4)


def test_exponential_gaps_over_several_chunks() -> None:
    gaps = np.diff(first(Arrivals(steady(50), "poisson", 7), 20_001))
    assert stats.kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


def test_the_seed_is_all_that_chance_depends_on() -> None:
    one, again, other = (first(Arrivals(steady(9), "poisson", s), 5000) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_a_poisson_ramp_has_its_rate_everywhere() -> None:
    """Counts in ten slices of a ramp against their means: Pearson's χ²."""
    ramp = Profile((Segment(100, 0, 200), Segment(1, 0, 0)))
    times = first(Arrivals(ramp, "poisson", 3), 100_000)
    assert times.max() <= 100, "a schedule ends where its profile does"
    edges = np.linspace(0, 100, 11)
    means = np.diff(edges**2)
    chi = ((np.histogram(times, edges)[0] - means) ** 2 / means).sum()
    assert stats.chi2.sf(chi, 10) > 0.01


def test_bursts_repeat() -> None:
    burst = Profile((Segment(1, 10, 10), Segment(3, 0, 0)), repeat=True)
    times = first(Arrivals(burst, "constant", 1), 25)
    np.testing.assert_allclose(times % 4, np.tile(np.arange(1, 11) / 10, 3)[:25] % 4, atol=1e-9)
    assert times[-1] == pytest.approx(8.5)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_must_be_above_zero(rate: float) -> None:
    with pytest.raises(UsageError, match="rate"):
        steady(rate)


@pytest.mark.parametrize(
    "parts",
    [(), (Segment(1, 0, 0),), (Segment(0, 1, 1),), (Segment(-1, 1, 1),), (Segment(1, -1, 1),)],
)
def test_what_is_no_profile_is_refused(parts: tuple[Segment, ...]) -> None:
    with pytest.raises(UsageError):
        Profile(parts)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ((), "no arrival times"),
        ((-0.1, 1.0), "negative"),
        ((0.0, math.nan), "no number"),
        ((0.0, 2.0, 1.0), "number 3 is too early"),
    ],
)
def test_what_is_no_replay_is_refused(times: tuple[float, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Replay(times)


def test_a_schedule_is_taken_in_order_and_ends() -> None:
    times = tuple(np.arange(10_000) / 1000)
    schedule = Schedule(Replay(times), start_ns=5)
    taken = []
    while (moment := schedule.next_ns()) is not None:
        assert schedule.next_ns() == moment, "looking is not taking"
        taken.append(moment)
        schedule.take()
    np.testing.assert_array_equal(taken, 5 + np.arange(10_000) * 1_000_000)


def test_what_is_due_and_not_taken_is_counted() -> None:
    schedule = Schedule(Arrivals(steady(1000), "constant", 1), start_ns=0)
    ms = 1_000_000
    for _ in range(10):
        schedule.take() if schedule.next_ns() else None
    assert schedule.untaken(0, 10 * ms) == 0
    assert schedule.untaken(0, 21 * ms) == 10
    assert schedule.untaken(15 * ms, 21 * ms) == 6
    assert schedule.untaken(0, 20_000 * ms + 1) == 20_000 - 10, "over several chunks"
    assert schedule.next_ns() == 11 * ms, "counting takes nothing"
