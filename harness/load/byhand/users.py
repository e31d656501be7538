"""What a Locust file needs to load a Triton server by hand: options, and users to derive from.

    locust -f scenarios/closed_loop.py --host http://127.0.0.1:8000

See the files in ``scenarios/``.
"""

# Locust patches the standard library for gevent when it is imported, so it comes first.
import locust  # isort: skip

import gc
import logging
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, cast

import gevent
import locust.runners

from harness.errors import HarnessError, UsageError
from harness.load.byhand.notebook import Notebook
from harness.load.byhand.options import (
    above_zero,
    add_options,
    closed,
    counts_from_1,
    open_loop,
    shaped,
)
from harness.load.byhand.sent import Asked, Sent, asked_of, prepared
from harness.load.byhand.session import Session
from harness.load.level import Sending
from harness.load.links.watchdog import Watchdog
from harness.load.senders import Link, connect
from harness.point import Load

__all__ = [
    "ClosedLoopUser",
    "Course",
    "OpenLoopUser",
    "above_zero",
    "closed",
    "counts_from_1",
    "install",
    "open_loop",
    "shaped",
]

log = logging.getLogger(__name__)

# Beyond the request's own time-out, until Locust kills a user that it wants to stop.
STOP_ALLOWANCE_S = 5.0


def install(name: str, load: Callable[[int, Any], Load] = closed) -> None:
    """Register a Locust file's options and events; call it once, in the file.

    Args:
        name: of the run.
        load: makes a load level of a number of users and Locust's parsed options.
    """
    events: Any = locust.events
    events.init_command_line_parser.add_listener(add_options)

    def init(environment: Any, **_: Any) -> None:  # noqa: ANN401 - Locust's own objects
        hand = Hand(environment, name, load)
        environment.hand = hand
        events.test_start.add_listener(hand.begin)
        events.spawning_complete.add_listener(hand.reached)
        events.test_stopping.add_listener(hand.stopping)
        events.quitting.add_listener(hand.quit)

    events.init.add_listener(init)


class Hand:
    """A load by hand: what is sent, made from Locust's options, and the session of the users."""

    def __init__(self, environment: Any, name: str, load: Callable[[int, Any], Load]) -> None:  # noqa: ANN401 - Locust's own
        self.options = environment.parsed_options
        self.watchdog = Watchdog()
        self.session: Session | None = None
        self.sent: Sent
        self.cap = 0
        self.numbers = count()
        self._environment = environment
        self._name = name
        self._load = load
        self._asked: Asked | None = None
        self._notebook: Notebook | None = None
        if not environment.stop_timeout:
            environment.stop_timeout = self.options.request_timeout + STOP_ALLOWANCE_S
        self._take_interrupts()
        if environment.host:
            try:
                self._prepare()
            except HarnessError as error:
                log.error("%s", error)  # noqa: TRY400 - a sentence for the user
                raise SystemExit(error.exit_code) from None
        gc.collect()
        gc.freeze()

    def begin(self, **_: Any) -> bool:  # noqa: ANN401 - Locust's own objects
        """A test starts, if it can: the web interface may ask for something else than before."""
        try:
            self._prepare()
            self.cap = _cap(self._load(1, self.options))
        except HarnessError as error:
            log.error("%s", error)  # noqa: TRY400 - a sentence for the user
            self._close_session()
            return False
        return True

    def abandon(self) -> None:
        """Stop a test of which nothing can be sent: it would go on without users, and start no more."""
        runner = self._environment.runner
        going_on = (locust.runners.STATE_SPAWNING, locust.runners.STATE_RUNNING)
        if isinstance(runner, locust.runners.LocalRunner) and runner.state in going_on:
            runner.stop()

    def reached(self, user_count: int, **_: Any) -> None:  # noqa: ANN401 - Locust's own objects
        """Locust has started as many users as it should; a worker hears of those of all workers."""
        runner = self._environment.runner
        if isinstance(runner, locust.runners.WorkerRunner):
            user_count = sum(runner.user_classes_count.values())
        if self.session is not None:
            self.session.wanted(user_count)

    def stopping(self, **_: Any) -> None:  # noqa: ANN401 - Locust's own objects
        """Locust is about to stop all users."""
        if self.session is not None:
            self.session.wanted(0)

    def quit(self, **_: Any) -> None:  # noqa: ANN401 - Locust's own objects
        """Locust ends, however it was told to."""
        self._close_session()
        self._close_notebook()

    def _take_interrupts(self) -> None:
        """Let Ctrl-C reach the main greenlet alone, and once.

        Python would raise it in whichever user happens to run. From a second later on, another one ends
        the process at once.
        """
        hub, main = gevent.get_hub(), gevent.getcurrent()
        heard: list[bool] = []

        def interrupt() -> None:
            if not heard:
                heard.append(True)
                gevent.spawn_later(1, watcher.cancel)  # which leaves the signal its default
                hub.loop.run_callback(main.throw, KeyboardInterrupt())

        watcher = gevent.signal_handler(signal.SIGINT, interrupt)

    def connect(self) -> Link:
        """A connection for one user."""
        return connect(self.sent.target, self.sent.workload, "raw", self.watchdog)

    def _close_session(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None

    def _prepare(self) -> None:
        """Make the session of what is asked for, if it is not that of before."""
        options = self.options
        asked = asked_of(self._environment.host or "", options)
        if self.session is not None and asked == self._asked:
            return
        self._close_session()
        distributed = not isinstance(self._environment.runner, locust.runners.LocalRunner)
        has_shape = self._load(1, options).kind == "shaped"
        for given, what in ((options.run_dir, "--run-dir"), (has_shape, "a load with a shape")):
            if given and distributed:
                raise UsageError(
                    f"{what} needs all users in one process",
                    remedy="Leave out --master, --worker and --processes",
                )
        self.sent = prepared(asked, lambda users: self._load(users, options))
        if options.run_dir:
            self._open_notebook(self.sent, options.run_dir)
        else:
            self._close_notebook()
        self.session = Session(self.sent, self._notebook)
        self._asked = asked

    def _open_notebook(self, sent: Sent, path: str) -> None:
        """Go on in the run directory of before, or in a new one if another is asked for."""
        if self._notebook is not None and self._notebook.path != Path(path):
            self._close_notebook()
        if self._notebook is None:
            self._notebook = Notebook(
                Path(path),
                self._name,
                sent.target,
                request_timeout_s=sent.request_timeout_s,
                seed=sent.seed,
            )
        elif not self._notebook.is_of(sent.target, sent.request_timeout_s, sent.seed):
            raise UsageError(
                "this run directory is of another server, model, reference, time-out or seed",
                where=path,
                remedy="Give another --run-dir with these",
            )

    def _close_notebook(self) -> None:
        if self._notebook is not None:
            self._notebook.close()
            self._notebook = None


def _cap(load: Load) -> int:
    return 0 if load.kind == "closed" else load.max_in_flight


class Course(locust.LoadTestShape):
    """As many users as the load's cap on requests in flight, until its shape has come to its end."""

    abstract = True

    def tick(self) -> tuple[int, float] | None:
        """The number of users wanted now, and how many to start a second; ``None`` at the end."""
        runner = cast("Any", self.runner)
        hand = runner.environment.hand
        # Locust asks for the first number before it says that a test starts.
        if not runner.user_count and not hand.begin():
            return None
        if hand.session.finished:
            return None
        return hand.cap, hand.cap


class HandUser(locust.User):
    """A user that sends one request a task, and tells Locust of it."""

    abstract = True

    def on_start(self) -> None:
        """Take a number and a connection."""
        hand = cast("Hand", self.environment.hand)
        if hand.session is None:
            gevent.spawn(hand.abandon)
            raise gevent.GreenletExit  # the log says why; of another exception Locust logs a traceback
        self.hand = hand
        self.session = hand.session
        self.number = next(hand.numbers)
        self.link = hand.connect()
        self.session.joined()
        self.sending = Sending(self.session.level, self.link, self.number)

    def on_stop(self) -> None:
        """Give the connection back."""
        if hasattr(self, "sending"):
            self.session.gone()
            self.link.close()

    def send(self, due_ns: int = 0) -> None:
        """Send one request of the level that is on, and tell Locust."""
        level = self.session.level
        if self.sending.level is not level:
            self.sending = Sending(level, self.link, self.number)
        sending = self.sending
        sending.one(due_ns)
        self.environment.events.request.fire(
            request_type=level.workload.key,
            name=self.hand.sent.target.model,
            response_time=sending.latency_ms,
            response_length=0,
            exception=None if sending.reason is None else RuntimeError(sending.reason),
            context={},
        )
        if sending.backoff_s:
            level.over.wait(sending.backoff_s)


class ClosedLoopUser(HandUser):
    """Sends its next request as soon as it has its answer."""

    abstract = True

    @locust.task
    def next_request(self) -> None:
        """Send one request."""
        self.send()


class OpenLoopUser(HandUser):
    """Sends what is due while it is free."""

    abstract = True

    @locust.task
    def next_request(self) -> None:
        """Wait for a request that is due, and send it."""
        dispatcher = self.session.dispatcher
        if dispatcher is None:
            gevent.sleep(0.01)
        elif (due_ns := dispatcher.take()) is not None:
            self.send(due_ns)
