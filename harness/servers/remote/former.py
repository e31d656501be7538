"""What a server that is not ours was doing before, and how it comes to do that again.

Triton forgets a configuration that it was given with a load once the model is unloaded; a model that
stays loaded keeps it, also through further loads. So a model that was loaded gets its former configuration
back with one more load, and one that was not is unloaded.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError, HarnessError
from harness.servers.control import Control
from harness.servers.inquiry import answers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.servers.server import Endpoints

__all__ = ["Former", "kept"]

ANSWER_S = 10.0  # a server that is silent for so long has nothing that could be put back
PAUSE_S = 0.2
STEADY = (
    2  # times in a row that a model must be as it was: an interrupted load may still be under way
)


@dataclass(frozen=True)
class Former:
    """A model before the run.

    Attributes:
        model: its name.
        loaded: whether it was loaded.
        configuration: what it had, or has by the server's repository; ``None`` of one that is to vanish.
    """

    model: str
    loaded: bool
    configuration: dict[str, Any] | None


@contextmanager
def kept(
    endpoints: Endpoints, models: Sequence[str], visitors: Sequence[str], *, deadline_s: float
) -> Iterator[dict[str, Former]]:
    """Put every model's former configuration back when the block ends, whatever ends it.

    A second Ctrl-C is heeded when all is back; what is not is said before it.

    Args:
        endpoints: of a server that lets models be loaded.
        models: what is measured; one that is not loaded is loaded as the server has it.
        visitors: models that are not the server's, and are unloaded at the end.
        deadline_s: how long a model may take to load.

    Raises:
        EnvironmentFailedError: a model cannot be loaded, or what was there cannot be put back.
        KeyboardInterrupt: it came while all was put back.
    """
    former: dict[str, Former] = {}
    undone: list[str] = []
    failed: BaseException | None = None
    try:
        with Control(endpoints) as control:
            for model in models:
                loaded = _is_loaded(control, model)
                former[model] = Former(model, loaded, None)
                if not loaded:
                    control.load(model, deadline_s=deadline_s)
                configuration = control.effective_configuration(model)
                former[model] = Former(model, loaded, configuration)
        yield dict(former)
    except BaseException as error:
        failed = error
        raise
    finally:
        wanted = [*former.values(), *(Former(name, False, None) for name in visitors)]  # noqa: FBT003
        with _undisturbed() as heard:
            undone += _put_back(endpoints, wanted, deadline_s)
        if undone:
            ended = failed or (KeyboardInterrupt() if heard else None)
            raise _not_put_back(undone, ended) from failed
        if heard:
            raise KeyboardInterrupt


def _not_put_back(undone: Sequence[str], failed: BaseException | None) -> EnvironmentFailedError:
    """What could not be put back, and what ended the run before that."""
    said = f"the server is not as it was: {'; '.join(undone)}"
    where = remedy = None
    if isinstance(failed, HarnessError):
        said, where, remedy = f"{failed.what.rstrip('.')}; and {said}", failed.where, failed.remedy
    elif isinstance(failed, KeyboardInterrupt):
        said = f"interrupted; and {said}"
    return EnvironmentFailedError(
        said, where=where, remedy=remedy or "Load these models anew on the server"
    )


def _put_back(endpoints: Endpoints, wanted: Sequence[Former], deadline_s: float) -> list[str]:
    """Bring models to what they were; say of each that is not why."""
    deadline = time.monotonic() + ANSWER_S
    while not answers(endpoints, "/v2/health/live"):
        if time.monotonic() > deadline:
            names = ", ".join(former.model for former in wanted if former.loaded)
            silent = f"it does not answer, so nothing was put back{f' of {names}' if names else ''}"
            return [silent] if any(former.loaded for former in wanted) else []
        time.sleep(PAUSE_S)
    with Control(endpoints) as control:
        said = [(former.model, _bring(control, former, deadline_s)) for former in wanted]
    return [f"{model} {reason}" for model, reason in said if reason]


def _bring(control: Control, former: Former, deadline_s: float) -> str:
    """Bring one model to what it was; return why it is not, or nothing."""
    deadline, steady, said = time.monotonic() + deadline_s, 0, ""
    while steady < STEADY:
        try:
            if _is_as_before(control, former):
                steady += 1
            else:
                steady = 0
                _change(control, former, deadline_s)
        except EnvironmentFailedError as error:
            steady, said = 0, error.what
        if time.monotonic() > deadline:
            return f"could not be put back ({said or 'it stays as it is'})"
        time.sleep(PAUSE_S / 4)
    return ""


def _change(control: Control, former: Former, deadline_s: float) -> None:
    if former.loaded:
        control.load(former.model, former.configuration, deadline_s=deadline_s)
    else:
        control.unload(former.model)


def _is_as_before(control: Control, former: Former) -> bool:
    loaded = _is_loaded(control, former.model)
    if not former.loaded or former.configuration is None:
        return loaded == former.loaded
    return loaded and control.effective_configuration(former.model) == former.configuration


def _is_loaded(control: Control, model: str) -> bool:
    try:
        return control.is_model_ready(model)
    except EnvironmentFailedError as error:
        if "nknown model" in error.what or "not found" in error.what:
            return False
        raise


@contextmanager
def _undisturbed() -> Iterator[list[int]]:
    """Put off what would interrupt; the signals that came within the block are for the caller to heed."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield heard  # signals go to the main thread
        return

    def note(number: int, _frame: object) -> None:
        heard.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
