from __future__ import annotations

import numpy as np

from harness.load.recorder import ROW, ROWS_A_CHUNK, Recorder
from harness.records import SAMPLE_DTYPE, Outcome


def rows(recorder: Recorder) -> np.ndarray:
    return np.frombuffer(b"".join(recorder.buffers()), SAMPLE_DTYPE)


def test_a_row_is_one_of_the_archive() -> None:
    assert ROW.size == SAMPLE_DTYPE.itemsize
    recorder = Recorder()
    recorder.add(1, 2**62, 3, 2**31 - 1, 5, Outcome.TIMEOUT, True)
    recorder.add(-1, 7, 8, 9, 10, Outcome.OK, False)
    assert rows(recorder).tolist() == [
        (1, 2**62, 3, 2**31 - 1, 5, Outcome.TIMEOUT, True),
        (-1, 7, 8, 9, 10, Outcome.OK, False),
    ]


def test_nothing_is_lost_or_moved_between_chunks() -> None:
    recorder = Recorder()
    count = 2 * ROWS_A_CHUNK + 3
    for number in range(count):
        recorder.add(0, number, number, 0, 1, Outcome.OK, False)
    assert len(recorder) == count
    np.testing.assert_array_equal(rows(recorder)["sent_ns"], np.arange(count))


def test_what_was_taken_does_not_grow() -> None:
    recorder = Recorder()
    recorder.add(1, 1, 1, 0, 1, Outcome.OK, False)
    taken = recorder.buffers()
    recorder.add(2, 2, 2, 0, 1, Outcome.OK, False)
    assert len(b"".join(taken)) == ROW.size


def test_latencies_are_those_of_the_last_answers() -> None:
    recorder = Recorder()
    for number in range(ROWS_A_CHUNK + 10):
        outcome = Outcome.REFUSED if number % 2 else Outcome.OK
        recorder.add(0, 5, number * 1_000_000, 0, 1, outcome, False)
    even = np.arange(0, ROWS_A_CHUNK + 10, 2)
    np.testing.assert_array_equal(recorder.latencies_ms(100_000), even)
    np.testing.assert_array_equal(recorder.latencies_ms(7), even[-7:])
    assert len(Recorder().latencies_ms(10)) == 0
