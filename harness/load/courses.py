"""From a load to the arrival times of its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import UsageError
from harness.load.arrivals import Arrivals, Profile, Replay, Segment, Until, steady
from harness.replay import read_arrivals

if TYPE_CHECKING:
    from harness.load.arrivals import Gaps, Times
    from harness.point import OpenLoad, ShapedLoad

__all__ = ["lead_in", "times_of"]


def times_of(load: OpenLoad | ShapedLoad, seed: int) -> Times:
    """When the requests of a load are due; of a shape, from its beginning to its end.

    Raises:
        UsageError: the file of a replay is gone, or is no longer the same.
    """
    if load.kind == "open":
        return Arrivals(steady(load.rate), load.arrivals, seed)
    if load.arrivals == "replayed":
        return _replay(load)
    segments = tuple(Segment(s.duration_s, s.rate_start, s.rate_end) for s in load.stretches)
    return Until(Arrivals(Profile(segments, load.repeat), load.arrivals, seed), load.duration_s)


def lead_in(load: ShapedLoad, seed: int) -> Times:
    """What is due while a server is warmed up for a shape: requests at its first rate, for ever."""
    gaps: Gaps = "constant" if load.arrivals == "constant" else "poisson"
    # Not the shape's own arrivals: those begin with it.
    other = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
    return Arrivals(steady(load.first_rate), gaps, other)


def _replay(load: ShapedLoad) -> Replay:
    if load.path is None:
        raise UsageError("it is not known which file is to be replayed")
    try:
        times, digest = read_arrivals(load.path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if digest != load.sha256:
        raise UsageError(
            "the replay has changed since the scenario was read",
            where=load.path.name,
            remedy="Start again, and leave the file as it is meanwhile",
        )
    return Replay(tuple((times / load.speed).tolist()))
