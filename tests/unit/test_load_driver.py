from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from harness.load.driver import Driver, Target

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType


class Interrupt:
    """Ctrl-C just before one line of a function, counted from its first; it comes once.

    Attributes:
        found: what was in a folder then.
    """

    def __init__(self, function: str, line: int, folder: Path) -> None:
        self.found: list[Path] = []
        self._function = function
        self._left = line
        self._folder = folder

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Interrupt | None:
        if frame.f_code.co_qualname != self._function:
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                self.found = list(self._folder.iterdir())
                raise KeyboardInterrupt
        return self


# The folder is there before the fourth line; the seventh would start the process.
@pytest.mark.parametrize("line", range(1, 8))
def test_an_interrupt_before_any_line_of_its_start_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: int
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    driver = Driver(Target(http="", grpc=None, model="m"), logs=tmp_path, seed=1)
    interrupt = Interrupt("Driver.__enter__", line, tmp_path)
    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            driver.__enter__()
    finally:
        sys.settrace(before)
    assert bool(interrupt.found) == (line > 3)
    assert not list(tmp_path.iterdir())
