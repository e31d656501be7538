from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.servers.readings.kept import Kept


@given(st.integers(10, 200), st.integers(1, 5), st.integers(0, 3000))
def test_what_is_kept_is_bounded_even_and_from_the_beginning_on(
    most: int, series: int, moments: int
) -> None:
    kept: Kept[tuple[int, int]] = Kept(most, lambda row: row[1])
    moment = taken = 0
    while moment < moments:
        kept.extend((moment, number) for number in range(series))
        taken += 1
        moment += kept.pace
    pace = kept.pace
    rows = kept.drain()
    assert len(rows) <= most
    for number in range(series):
        times = [time for time, of in rows if of == number]
        assert times[:1] == [0][: moments and 1]
        assert all(0 < later - earlier <= 2 * pace for earlier, later in pairwise(times))
    assert len(rows) == taken * series or pace > 1
    assert kept.drain() == []
    assert kept.pace == 1
