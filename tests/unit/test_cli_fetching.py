"""An image on its way, in a log that nobody watches."""

from __future__ import annotations

from itertools import pairwise

from harness.cli.fetching import LINE_EVERY_S, PullLines
from harness.servers.container.image import PullProgress

GB = 1_000_000_000


class Log:
    """What is said of a pull, at the times that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.lines: list[str] = []
        self.pull = PullLines("registry.example/triton:1", self.lines.append, lambda: self.now_s)

    def take(self, at_s: float, *progress: int) -> list[str]:
        """What is said of it; ``at_s`` counts from the beginning."""
        self.now_s, before = 100 + at_s, len(self.lines)
        self.pull.take(PullProgress(*progress))
        return self.lines[before:]


def test_nothing_is_said_of_an_image_that_is_here() -> None:
    log = Log()
    log.pull.take(PullProgress())
    log.pull.end()
    assert not log.lines


def test_a_line_at_once_then_now_and_then_and_one_at_the_end() -> None:
    log = Log()
    assert log.take(0, 0, 0, 0, 3) == ["Fetching the image registry.example/triton:1"]
    assert log.take(9.9, 1 * GB, 2 * GB, 0, 3, 2) == []
    assert log.take(10, 1 * GB, 2 * GB, 1, 3, 2) == ["  1.0 GB of more than 2.0 GB, 1/3 layers"]
    assert log.take(19.9, 2 * GB, 8 * GB, 1, 3, 3) == []
    assert log.take(20, 2 * GB, 8 * GB, 1, 3, 3) == [
        "  2.0 GB of 8.0 GB, 1/3 layers, 1 min 00 s left"
    ]
    assert log.take(80, 8 * GB, 8 * GB, 2, 3, 3) == ["  8.0 GB fetched, being unpacked, 2/3 layers"]
    log.now_s = 100 + 95
    log.pull.end()
    assert log.lines[-1] == "  here after 1 min 35 s"


def test_where_no_size_is_known_none_is_told() -> None:
    log = Log()
    log.take(0, 0, 0, 0, 2)
    assert log.take(10, 0, 0, 0, 2) == ["  0/2 layers"]
    assert log.take(20, 0, GB, 1, 2, 2) == ["  0 bytes of 1.0 GB, 1/2 layers"]


def test_a_layer_that_broke_off_is_told_and_no_time_left() -> None:
    log = Log()
    log.take(0, 0, 0, 0, 2)
    assert log.take(10, 2 * GB, 3 * GB, 1, 2, 2, 1) == [
        "  2.0 GB of 3.0 GB, 1/2 layers; the registry broke off, and is asked again"
    ]


def test_a_long_wait_is_told_in_fewer_lines() -> None:
    """Hours at ten events a second are two pages of a log, and no silence is longer than a tenth of them."""
    log, events = Log(), range(10 * 7200 + 1)
    said_s = [event / 10 for event in events if log.take(event / 10, event, 72_000, 0, 2, 2)]
    pauses = [later - earlier for earlier, later in pairwise(said_s)]
    assert min(pauses) >= LINE_EVERY_S
    assert max(pauses) < 7200 / 10
    assert 20 < len(said_s) < 100
