"""Ctrl-C that is not lost: remembered where Python cannot raise, and raised again where it can.

Python raises ``KeyboardInterrupt`` wherever the main thread happens to be. In a finaliser or the callback
of a weak reference nobody can catch it, and it is dropped with a message. TensorFlow spends most of its
cleaning up between two fits in such callbacks, and the import system uses them too. So long work asks
:func:`heed` now and then.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["end_with_a_code", "heed", "interrupted", "take_signals"]


class _State:
    """Whether a signal to end has come; set once, by the handler."""

    interrupted = False


def take_signals() -> None:
    """Treat SIGINT and SIGTERM alike from now on: both raise ``KeyboardInterrupt`` and are remembered.

    Nothing is said any more of one that Python drops, since it is not lost.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    before = sys.unraisablehook

    def unraisable(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
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


def end_with_a_code() -> None:
    """See that the exit code counts at the end, whatever has been interrupted.

    ``python -m`` ends itself with SIGINT instead where an interrupt, caught or not, came through code in a
    string, such as the methods of a dataclass. Python notes that anew each time it runs such code
    (``run_eval_code_obj`` in ``pythonrun.c``).
    """
    eval("None")  # noqa: S307 - nobody else's words


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    _State.interrupted = True
    raise KeyboardInterrupt
