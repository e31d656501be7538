"""Ctrl-C that is not lost: remembered where Python cannot raise, and raised again where it can.

Python raises ``KeyboardInterrupt`` wherever the main thread happens to be. In a finaliser or the callback
of a weak reference nobody can catch it, and it is dropped with a message. TensorFlow spends most of its
cleaning up between two fits in such callbacks, and the import system uses them too. So long work asks
:func:`heed` now and then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["heed", "interrupted", "take_signals"]


class _State:
    """Whether a signal to end has come; set once, by the handler."""

    interrupted = False


def take_signals() -> None:
    """Treat SIGINT, SIGTERM and SIGHUP alike from now on: they raise ``KeyboardInterrupt`` and are remembered.

    Under ``nohup`` a SIGHUP stays ignored. Nothing is said any more of one that Python drops, since it is not lost,
    nor of what cannot be finalised after one, since it may be half made.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _hang_up)
    before = sys.unraisablehook

    def unraisable(dropped: sys.UnraisableHookArgs) -> None:
        if not _State.interrupted:
            before(dropped)

    sys.unraisablehook = unraisable


def interrupted() -> bool:
    """Whether a signal to end has come."""
    return _State.interrupted


def heed() -> None:
    """Raise an interrupt again that came where Python could not raise it.

    Raises:
        KeyboardInterrupt: one has come.
    """
    if _State.interrupted:
        raise KeyboardInterrupt


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    _State.interrupted = True
    raise KeyboardInterrupt


def _hang_up(signum: int, frame: FrameType | None) -> NoReturn:
    """The terminal is gone: whatever is still said there must not fail."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)
    _interrupt(signum, frame)
