"""An interrupt that comes where Python cannot raise is raised later, and is no message on the terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

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
    for name in ("SIGINT", "SIGTERM"):
        done = run(DROPPED.format(signal=name))
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


HALF_MADE = """
import os, signal
from harness.interrupt import take_signals

class Client:
    def __init__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))
        self.stream = None

    def __del__(self):
        self.stream

take_signals()
try:
    Client()
except KeyboardInterrupt as error:
    error.__traceback__ = None
    print("interrupted")
"""


def test_nothing_is_said_of_what_an_interrupt_left_half_made() -> None:
    """Such is the client of a server's control plane."""
    done = run(HALF_MADE)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted\n", "", 0)


TWICE = """
import os, signal
from harness.cli import console, main

def complain(text):
    os.kill(os.getpid(), signal.{signal})
    sum(range(1000))

console.complain = complain
main(["run", "no-such-scenario.yaml"])
"""


def test_an_interrupt_while_the_end_is_told_ends_it_with_130() -> None:
    for name in ("SIGINT", "SIGTERM"):
        done = run(TWICE.format(signal=name))
        assert done.returncode == 130
        assert done.stderr == ""


HUNG_UP = """
import pathlib, sys, time
from harness.interrupt import take_signals

take_signals()
try:
    print("up", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("nobody reads this", flush=True)
    pathlib.Path(sys.argv[1]).write_text("put back")
"""


def test_a_terminal_that_is_gone_is_an_interrupt_and_nothing_said_to_it_fails(
    tmp_path: Path,
) -> None:
    ours, its = pty.openpty()
    command = [sys.executable, "-c", HUNG_UP, str(tmp_path / "end")]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        said = b""
        while b"up\r\n" not in said:  # else it may still be writing when we close
            said += os.read(ours, 100)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
    assert (tmp_path / "end").read_text() == "put back"


def test_under_nohup_it_goes_on() -> None:
    done = run(
        "import os, signal\n"
        "from harness.interrupt import interrupted, take_signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "take_signals()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "print(interrupted())\n"
    )
    assert done.stdout == "False\n"
