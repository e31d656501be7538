"""What a Locust file needs to load a Triton server by hand: options, and users to derive from.

    locust -f scenarios/closed_loop.py --host http://127.0.0.1:8000

See the files in ``scenarios/``.
"""

# Locust patches the standard library for gevent when it is imported, so it comes first.
import locust  # isort: skip

from collections.abc import Callable
from typing import Any, cast

import gevent

from harness.load.byhand.hand import Hand
from harness.load.byhand.options import (
    above_zero,
    add_options,
    closed,
    counts_from_1,
    open_loop,
    shaped,
    stepped,
)
from harness.load.level import Sending
from harness.load.outcomes import LONGEST_REASON
from harness.point import Load

__all__ = [
    "ClosedLoopUser",
    "Course",
    "OpenLoopUser",
    "Shape",
    "above_zero",
    "closed",
    "counts_from_1",
    "install",
    "open_loop",
    "shaped",
    "stepped",
]


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


class Shape(locust.LoadTestShape):
    """A shape of Locust's that asks, before it begins, whether there is something to send."""

    abstract = True

    @property
    def hand(self) -> Hand:
        """What is sent."""
        return cast("Hand", cast("Any", self.runner).environment.hand)

    def ready(self) -> bool:
        """Whether something is sent; Locust asks for the first users before it says that a test starts."""
        if not cast("Any", self.runner).user_count:
            before = self.hand.session
            if not self.hand.begin():
                return False
            if self.hand.session is not before:
                cast("Any", self).reset_time()  # to prepare it took its time
        return self.hand.session is not None


class Course(Shape):
    """As many users as the load's cap on requests in flight, until its shape has come to its end."""

    abstract = True

    def tick(self) -> tuple[int, float] | None:
        """The number of users wanted now, and how many to start a second; ``None`` at the end."""
        hand = self.hand
        if not self.ready() or hand.session is None or hand.session.finished:
            return None
        return hand.cap, hand.cap


class HandUser(locust.User):
    """A user that sends one request a task, and tells Locust of it."""

    abstract = True

    def on_start(self) -> None:
        """Take a number and a connection."""
        hand = cast("Hand", self.environment.hand)
        if hand.session is None:
            raise gevent.GreenletExit  # the log says why; of another exception Locust logs a traceback
        self.session = hand.session
        self.model = hand.model
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
            name=self.model,
            response_time=sending.latency_ms,
            response_length=0,
            exception=None
            if sending.reason is None
            else RuntimeError(sending.reason[:LONGEST_REASON]),
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
