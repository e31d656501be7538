"""A load by hand: what Locust's options ask for, the session that sends it, and the run that is written down."""

from __future__ import annotations

import argparse
import gc
import logging
import signal
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import locust.runners
from gevent.lock import Semaphore

from harness.errors import HarnessError, UsageError
from harness.load.byhand.notebook import Notebook
from harness.load.byhand.sent import Asked, Sent, asked_of, prepared
from harness.load.byhand.session import Session
from harness.load.links.watchdog import Watchdog
from harness.load.senders import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.load.senders import Link
    from harness.point import Load

__all__ = ["Hand"]

log = logging.getLogger(__name__)

# Beyond the request's own time-out, until Locust kills a user that it wants to stop.
STOP_ALLOWANCE_S = 5.0
LOOK_S = 0.02
# Within which Locust has begun to start users after it has said that a test starts.
STARTS_WITHIN_S = 2.0
GOING_ON = (locust.runners.STATE_SPAWNING, locust.runners.STATE_RUNNING)


class Hand:
    """A load by hand: what is sent, made from Locust's options, and the session of the users.

    Args:
        environment: Locust's own.
        name: of the run.
        load: makes a load level of a number of users and Locust's parsed options.

    Attributes:
        session: of what was asked for last; ``None`` where that cannot be sent.
        cap: the users that an open load needs; 0 of a closed one.
        numbers: of the users.
        options: Locust's, as they were when the test started.
    """

    def __init__(self, environment: Any, name: str, load: Callable[[int, Any], Load]) -> None:  # noqa: ANN401 - Locust's own
        self.watchdog = Watchdog()
        self.session: Session | None = None
        self.cap = 0
        self.numbers = count()
        self.options = environment.parsed_options
        self._sent: Sent
        self._environment = environment
        self._name = name
        self._load = load
        self._asked: Asked | None = None
        self._notebook: Notebook | None = None
        self._starts = 0
        self._main = gevent.getcurrent()
        self._ending = Semaphore()
        self._told = False
        if not environment.stop_timeout:
            environment.stop_timeout = self.options.request_timeout + STOP_ALLOWANCE_S
        self._take_interrupts()
        # A worker, and who starts by the web interface, may hear of the host later.
        worker = isinstance(environment.runner, locust.runners.WorkerRunner)
        if environment.host or (self.options.headless and not worker):
            try:
                self._prepare()
            except HarnessError as error:
                log.error("%s", error)  # noqa: TRY400 - a sentence for the user
                raise SystemExit(error.exit_code) from None
        gc.collect()
        gc.freeze()

    def begin(self, **_: Any) -> bool:  # noqa: ANN401 - Locust's own objects
        """A test starts, if it can: the web interface may ask for something else than before."""
        self._starts += 1
        try:
            while self._environment.runner.state == locust.runners.STATE_CLEANUP:
                gevent.sleep(LOOK_S)  # the users of before still send
            self._prepare()
        except HarnessError as error:
            log.error("%s", error)  # noqa: TRY400 - a sentence for the user
            self._refuse(error.exit_code)
            return False
        except Exception:  # of an event Locust would go on, and send what was asked for before
            log.exception("What is asked for cannot be prepared")
            self._refuse(1)
            return False
        return True

    def reached(self, user_count: int, **_: Any) -> None:  # noqa: ANN401 - Locust's own objects
        """Locust has started as many users as it should; a worker hears it of its master."""
        runner = self._environment.runner
        if isinstance(runner, locust.runners.WorkerRunner):
            gevent.spawn(self._reached_here, runner)
        elif self.session is not None:
            self.session.wanted(user_count)

    def _reached_here(self, worker: locust.runners.WorkerRunner) -> None:
        """The master counts the users of all workers, and waits a second at most until they run."""
        if worker.spawning_greenlet is not None:
            worker.spawning_greenlet.join()
        if self.session is not None and worker.state == locust.runners.STATE_RUNNING:
            self.session.wanted(sum(worker.user_classes_count.values()))

    def stopping(self, **_: Any) -> None:  # noqa: ANN401 - Locust's own objects
        """Locust is about to stop all users."""
        if self.session is not None:
            self.session.wanted(0)

    def quit(self, **_: Any) -> None:  # noqa: ANN401 - Locust's own objects
        """Locust ends, however it was told to: by whoever tells it first, and another signal changes nothing."""
        while self._told and gevent.getcurrent() is not self._main:
            gevent.sleep(LOOK_S)  # until the first has ended the process
        self._told = True
        with self._ending:
            self._close_session()
            self._close_notebook()

    @property
    def model(self) -> str:
        """The name of the model that is asked."""
        return self._sent.target.model

    def connect(self) -> Link:
        """A connection for one user."""
        return connect(self._sent.target, self._sent.workload, "raw", self.watchdog)

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

    def _refuse(self, exit_code: int) -> None:
        """Send nothing, and end the test that Locust is about to start."""
        self._close_session()
        environment = self._environment
        if environment.parsed_options.headless:
            environment.process_exit_code = exit_code
        if not isinstance(environment.runner, locust.runners.WorkerRunner):
            gevent.spawn(self._abandon, self._starts)

    def _abandon(self, start: int) -> None:
        """Stop Locust's test: it would go on without users, and could not be started again."""
        environment = self._environment
        for _ in range(round(STARTS_WITHIN_S / LOOK_S)):
            if start != self._starts:
                return
            if environment.runner.state in GOING_ON:
                break
            gevent.sleep(LOOK_S)
        if environment.parsed_options.headless:
            environment.runner.quit()
        elif environment.runner.state in GOING_ON:
            environment.runner.stop()

    def _prepare(self) -> None:
        """Make the session of what is asked for, if it is not that of before.

        What the web interface changes while a test runs is for the next one: a level is of one kind.
        """
        options = argparse.Namespace(**vars(self._environment.parsed_options))

        def load(users: int) -> Load:
            return self._load(users, options)

        asked = asked_of(self._environment.host or "", options, load(1))
        self.options = options
        if self.session is not None and asked == self._asked:
            return
        self._close_session()
        distributed = not isinstance(self._environment.runner, locust.runners.LocalRunner)
        shaped = asked.load.kind == "shaped"
        for given, what in ((asked.run_dir, "--run-dir"), (shaped, "a load with a shape")):
            if given and distributed:
                raise UsageError(
                    f"{what} needs all users in one process",
                    remedy="Leave out --master, --worker and --processes",
                )
        self._sent = prepared(asked, load)
        self._open_notebook(self._sent, asked.run_dir)
        self.session = Session(self._sent, self._notebook)
        self.cap = 0 if asked.load.kind == "closed" else asked.load.max_in_flight
        self._asked = asked

    def _close_session(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.close()

    def _open_notebook(self, sent: Sent, path: str) -> None:
        """Go on in the run directory of before, or in a new one if another is asked for."""
        if not path:
            self._close_notebook()
        elif self._notebook is None or self._notebook.path != Path(path):
            notebook = Notebook(
                Path(path),
                self._name,
                sent.target,
                request_timeout_s=sent.request_timeout_s,
                seed=sent.seed,
            )
            self._close_notebook()
            self._notebook = notebook
        elif not self._notebook.is_of(sent.target, sent.request_timeout_s, sent.seed):
            raise UsageError(
                "this run directory is of another server, model, reference, time-out or seed",
                where=path,
                remedy="Give another --run-dir with these",
            )

    def _close_notebook(self) -> None:
        notebook, self._notebook = self._notebook, None
        if notebook is None:
            return
        try:
            notebook.close()
        except HarnessError as error:  # such as no room; what was sealed is kept
            log.error("%s", error)  # noqa: TRY400 - a sentence for the user
