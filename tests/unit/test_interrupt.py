"""An interrupt that comes where Python cannot raise is raised later, and is no message on the terminal."""

from __future__ import annotations

import subprocess
import sys

DROPPED = """
import os, signal, weakref
from harness.interrupt import heed, interrupted, take_signals

class Thing: pass

def collected(_reference):
    os.kill(os.getpid(), signal.{signal})
    sum(range(1000))  # Python raises between two steps of this, where nobody can catch it

take_signals()
heed()
thing = Thing()
reference = weakref.ref(thing, collected)
del thing
print("went on", interrupted())
try:
    heed()
except KeyboardInterrupt:
    print("raised again")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )


def test_an_interrupt_that_python_drops_is_raised_again() -> None:
    for signal in ("SIGINT", "SIGTERM"):
        done = run(DROPPED.format(signal=signal))
        assert done.stdout == "went on True\nraised again\n"
        assert done.stderr == ""
        assert done.returncode == 0


def test_any_other_error_that_python_drops_is_still_said() -> None:
    done = run(
        "import weakref\n"
        "from harness.interrupt import take_signals\n"
        "class Thing: pass\n"
        "take_signals()\n"
        "thing = Thing()\n"
        "reference = weakref.ref(thing, lambda _: 1 / 0)\n"
        "del thing\n"
    )
    assert "ZeroDivisionError" in done.stderr
