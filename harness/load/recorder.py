"""One row a request, kept in memory: no file is written while load is sent."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.records import SAMPLE_DTYPE, Outcome

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Recorder"]

# The row of SAMPLE_DTYPE as the struct module writes it (0.3 µs a row; NumPy takes four times that).
ROW = struct.Struct("=qqqiib?")
ROWS_A_CHUNK = 32_768
CHUNK_BYTES = ROWS_A_CHUNK * ROW.size

# A right answer and a wrong one took the time that an answer takes; a failure has a time of its own.
ANSWERED = (Outcome.OK, Outcome.WRONG_ANSWER)


class Recorder:
    """The samples of one load level, in the order of completion.

    It grows by chunks of about 1 MB; a fresh one costs no more than asking the kernel for the pages.
    """

    def __init__(self) -> None:
        self._chunks: list[bytearray] = [bytearray(CHUNK_BYTES)]
        self._chunk = self._chunks[0]
        self._offset = 0

    def __len__(self) -> int:
        """Number of samples."""
        return (len(self._chunks) - 1) * ROWS_A_CHUNK + self._offset // ROW.size

    def add(
        self,
        scheduled_ns: int,
        sent_ns: int,
        done_ns: int,
        user: int,
        batch: int,
        outcome: int,
        compared: bool,  # noqa: FBT001 - a column like the others, on the hot path
    ) -> None:
        """Append one row of ``records.SAMPLE_DTYPE``."""
        offset = self._offset
        if offset == CHUNK_BYTES:
            self._chunk = bytearray(CHUNK_BYTES)
            self._chunks.append(self._chunk)
            offset = 0
        ROW.pack_into(
            self._chunk, offset, scheduled_ns, sent_ns, done_ns, user, batch, outcome, compared
        )
        self._offset = offset + ROW.size

    def buffers(self) -> list[memoryview]:
        """The rows as bytes, without a copy; rows that are added later are not in it."""
        full = [memoryview(chunk) for chunk in self._chunks[:-1]]
        return [*full, memoryview(self._chunk)[: self._offset]]

    def latencies_ms(self, last: int) -> npt.NDArray[np.float64]:
        """The latency from the schedule of the ``last`` latest answers, in the order of completion."""
        parts: list[npt.NDArray[Any]] = []
        missing = last
        for buffer in reversed(self.buffers()):
            rows = np.frombuffer(buffer, SAMPLE_DTYPE)
            rows = rows[np.isin(rows["outcome"], ANSWERED)][-missing:]
            parts.append((rows["done_ns"] - rows["scheduled_ns"]) / 1e6)
            missing -= len(rows)
            if missing <= 0:
                break
        return np.concatenate(parts[::-1])
