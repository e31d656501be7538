"""What a Locust file needs to load a Triton server by hand: options, and users to derive from.

    locust -f scenarios/closed_loop.py --host http://127.0.0.1:8000

See the files in ``scenarios/``.
"""

# Locust patches the standard library for gevent when it is imported, so it comes first.
import locust  # isort: skip

import gc
import logging
import signal
import socket
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import gevent
import locust.exception
import locust.runners

from harness.errors import EnvironmentFailedError, HarnessError, UsageError
from harness.load.byhand_options import (
    above_zero,
    add_options,
    closed,
    counts_from_1,
    open_loop,
    shaped,
)
from harness.load.level import Sending
from harness.load.metadata import ask
from harness.load.notebook import Notebook
from harness.load.pools import Pools
from harness.load.senders import Link, connect
from harness.load.session import Sent, Session
from harness.load.target import Target
from harness.load.watchdog import Watchdog
from harness.point import Load, Workload

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
CONNECT_S = 5.0


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
        self.target: Target
        self.workload: Workload
        self.cap = 0
        self.numbers = count()
        self._environment = environment
        self._name = name
        self._load = load
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
        """A test starts, if it can: the web interface may give its host, and another load, only now."""
        try:
            if self.session is None:
                self._prepare()
            self.cap = _cap(self._load(1, self.options))
        except HarnessError as error:
            log.error("%s", error)  # noqa: TRY400 - a sentence for the user
            return False
        return True

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
        if self.session is not None:
            self.session.close()
        if self._notebook is not None:
            self._notebook.close()
            self._notebook = None

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
        return connect(self.target, self.workload, "raw", self.watchdog)

    def _prepare(self) -> None:
        options = self.options
        distributed = not isinstance(self._environment.runner, locust.runners.LocalRunner)
        if options.run_dir and distributed:
            raise UsageError(
                "--run-dir needs all users in one process",
                remedy="Leave out --master, --worker and --processes",
            )
        load = self._load(1, options)
        if load.kind == "shaped" and distributed:
            raise UsageError(
                "a load with a shape needs all users in one process",
                remedy="Leave out --master, --worker and --processes",
            )
        self.target = _target(self._environment.host, options)
        self.workload = Workload(protocol=options.protocol, batch_size=options.batch_size)
        if options.protocol == "grpc":
            _look_for_grpc(self.target.grpc or "")
        pool = Pools("raw", options.seed).get(self.target, self.workload)
        sent = Sent(
            target=self.target,
            workload=self.workload,
            pool=pool,
            load=lambda users: self._load(users, options),
            request_timeout_s=options.request_timeout,
            seed=options.seed,
        )
        if options.run_dir:
            self._notebook = Notebook(
                Path(options.run_dir),
                self._name,
                self.target,
                request_timeout_s=options.request_timeout,
                seed=options.seed,
            )
        self.session = Session(sent, self._notebook)


def _cap(load: Load) -> int:
    return 0 if load.kind == "closed" else load.max_in_flight


def _look_for_grpc(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if not port.isdecimal():
            raise OSError("no port")
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise EnvironmentFailedError(
            f"the server offers no gRPC there ({error.strerror or error})",
            where=address,
            remedy="Give its address with --grpc-host, or send over HTTP",
        ) from error


def _target(host: str, options: Any) -> Target:  # noqa: ANN401 - Locust's parsed options
    parts = urlsplit(host if "//" in host else f"//{host}")
    if parts.scheme not in ("", "http") or not parts.hostname:
        raise UsageError(
            f"{host!r} is no host that can be loaded", remedy="Give --host http://127.0.0.1:8000"
        )
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    http = f"{name}:{parts.port or 8000}"
    config = ask(http, f"models/{options.model}/config")
    return Target(
        http=http,
        grpc=options.grpc_host or f"{name}:8001",
        model=options.model,
        batched=int(config.get("max_batch_size", 0)) > 0,
        reference=Path(options.reference) if options.reference else None,
        tolerance=options.tolerance,
    )


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
            raise locust.exception.StopTest("what should be sent is not clear; see the log above")
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
            name=self.hand.target.model,
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
