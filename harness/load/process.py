"""The Locust process: sends what the driver orders, for as long as the driver lives.

    python -m harness.load.process --socket PATH

It uses Locust as a library: its runner makes the users, which are never killed, and nothing is printed.
When the socket closes, the process ends.
"""

# Locust patches the standard library for gevent when it is imported, so it comes first.
import locust  # isort: skip
import locust.env  # isort: skip

import argparse
import gc
import logging
import os
import socket
import sys
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import gevent
import numpy as np
from pydantic import TypeAdapter

from harness.errors import EnvironmentFailedError, HarnessError
from harness.load.crew import Crew
from harness.load.level import Level
from harness.load.links.grpc_threads import prepare_grpc
from harness.load.links.watchdog import Watchdog
from harness.load.messages import error_message, receive, send
from harness.load.outcomes import LONGEST_REASON
from harness.load.pools import Pools
from harness.load.senders import Sender, connect
from harness.load.target import Target
from harness.point import Load, Workload

__all__ = ["main"]

log = logging.getLogger("harness.load")

Reply = tuple[dict[str, Any], list[Any]]
LOAD: TypeAdapter[Any] = TypeAdapter(Load)
# Beyond the request's own time-out, within which users still wait for their last answer.
CHANGE_ALLOWANCE_S = 15.0
PAUSE_ALLOWANCE_S = 2.0
CLOSE_S = 1.0


class LoadUser(locust.User):
    """A Locust user that belongs to a crew."""

    crew: Crew
    numbers = count()

    @locust.task
    def work(self) -> None:
        """Work for the crew, for ever."""
        self.crew.work(next(self.numbers))


class Generator:
    """The load generator behind the socket: each public method answers one kind of message."""

    def __init__(self) -> None:
        self._environment = locust.env.Environment(user_classes=[LoadUser], catch_exceptions=False)
        self._runner = self._environment.create_local_runner()
        self._watchdog = Watchdog()
        self._users = 0
        self._levels = 0
        self._pools: Pools
        self._target: Target
        self._sender: Sender
        self._seed = 0
        self._timeout_s = 0.0
        self._latest: Level | None = None
        self.crew = Crew(self._spawn, self._connect)
        LoadUser.crew = self.crew

    def begin(self, message: dict[str, Any]) -> Reply:
        """Take the sender, the seed and the first target; comes once, before all else."""
        self._sender = cast("Literal['raw', 'tritonclient']", message["sender"])
        self._seed = message["seed"]
        self._pools = Pools(self._sender, self._seed)
        self._target = Target.from_json(message["target"])
        return {}, []

    def aim(self, message: dict[str, Any]) -> Reply:
        """Take another target for the levels to come; the users are parked."""
        target = Target.from_json(message["target"])
        if target != self._target:
            if self.crew.level is not None:
                raise EnvironmentFailedError("the load must be paused before it is aimed elsewhere")
            self._target = target
            self.crew.disconnect()
        return {}, []

    def level(self, message: dict[str, Any]) -> Reply:
        """Go over to a level; answer once each of its users has sent."""
        workload = Workload.model_validate(message["workload"])
        load = LOAD.validate_python(message["load"])
        pool = self._pools.get(self._target, workload)
        timeout_s = float(message["request_timeout_s"])
        self._levels += 1
        level = Level(
            workload,
            load,
            pool,
            request_timeout_s=timeout_s,
            # Every level has arrivals of its own, or passes would vary less than they should.
            seed=int(np.random.SeedSequence([self._seed, self._levels]).generate_state(1)[0]),
        )
        self._tell_reasons()
        self._latest = level
        patience_s = max(timeout_s, self._timeout_s) + CHANGE_ALLOWANCE_S
        self._timeout_s = timeout_s
        self.crew.start(level, patience_s)
        return {}, []

    def launch(self, _: dict[str, Any]) -> Reply:
        """Begin the level's shape; answer when that was."""
        return {"start_ns": self.crew.launch()}, []

    def left(self, _: dict[str, Any]) -> Reply:
        """Answer how many requests wait or are in flight."""
        return {"requests": self.crew.left()}, []

    def pause(self, message: dict[str, Any]) -> Reply:
        """Park all users; answer once nothing is in flight."""
        self._tell_reasons()
        # What is in flight ends by its own time-out at the latest.
        self.crew.pause(max(float(message["timeout_s"]), self._timeout_s + PAUSE_ALLOWANCE_S))
        return {}, []

    def latencies(self, message: dict[str, Any]) -> Reply:
        """Answer with the last latencies in ms."""
        recorder = self._level().recorder
        return {}, [recorder.latencies_ms(int(message["last"])).tobytes()]

    def reasons(self, _: dict[str, Any]) -> Reply:
        """Answer with the reasons of failures since the level began."""
        return {"reasons": self._told(self._level())}, []

    def collect(self, message: dict[str, Any]) -> Reply:
        """Answer with all samples since the level began, and with the readings of a window."""
        level = self._level()
        flying = np.array(list(level.flying.values()), np.int64)
        reconnects = np.array(level.reconnects, np.int64)
        unsent = self.crew.unsent(message["window_start_ns"], message["window_end_ns"])
        parts = [
            self.crew.heart.readings.to_bytes(),
            flying.tobytes(),
            reconnects.tobytes(),
            *level.recorder.buffers(),
        ]
        return {"unsent": unsent}, parts

    def close(self) -> None:
        """Stop sending and close every connection."""
        self._tell_reasons()
        self.crew.close()

    def _level(self) -> Level:
        """The level that is being sent, or was until the load was paused."""
        if self._latest is None:
            raise EnvironmentFailedError("nothing was sent yet")
        return self._latest

    def _connect(self, workload: Workload) -> Any:  # noqa: ANN401 - a Link, which mypy cannot see through Locust
        return connect(self._target, workload, self._sender, self._watchdog)

    def _spawn(self, users: int) -> None:
        if users > self._users:
            self._users = users
            self._runner.start(users, spawn_rate=users)

    def _tell_reasons(self) -> None:
        """Write to the log what went wrong at the level that ends."""
        level = self.crew.level
        if level is not None:
            for reason, times in self._told(level).items():
                log.warning(
                    "%s %s: %d times %s", level.workload.label, level.load.key, times, reason
                )

    def _told(self, level: Level) -> dict[str, int]:
        """The level's reasons as they may be told."""
        redacted = self._target.access.redacted
        told: dict[str, int] = {}
        for reason, times in level.reasons.items():
            short = redacted(reason)[:LONGEST_REASON]
            told[short] = told.get(short, 0) + times
        return told


def serve(generator: Generator, stream: BinaryIO) -> None:
    """Answer the driver's messages until there are no more."""
    answers = {
        "begin": generator.begin,
        "aim": generator.aim,
        "level": generator.level,
        "launch": generator.launch,
        "left": generator.left,
        "pause": generator.pause,
        "latencies": generator.latencies,
        "reasons": generator.reasons,
        "collect": generator.collect,
    }
    while (received := receive(stream)) is not None:
        message = received[0]
        try:
            reply, parts = answers[message["do"]](message)
        except HarnessError as error:
            reply, parts = error_message(error), []
        except Exception as error:  # a mistake of ours must not look like a dead process
            log.exception("order %s", message.get("do"))
            failed = EnvironmentFailedError(
                f"the load generator failed ({type(error).__name__}: {error})"
            )
            reply, parts = error_message(failed), []
        send(stream, reply, parts)


def main() -> int:
    """Connect to the driver, obey, and return the exit status when the driver is gone."""
    parser = argparse.ArgumentParser(description="The harness's load generator.")
    parser.add_argument("--socket", type=Path, required=True)
    path = parser.parse_args().socket
    logging.getLogger("locust").setLevel(logging.ERROR)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    prepare_grpc()
    generator = Generator()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    stream = cast("BinaryIO", connection.makefile("rwb"))
    # No collection within a window: what is there by now stays, and the rest is collected when the
    # level changes.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        serve(generator, stream)
    except OSError:
        log.warning("the driver is gone")
    except Exception:
        log.exception("the load generator failed")
        return 1
    finally:
        with gevent.Timeout(CLOSE_S, False):  # noqa: FBT003 - its own way to say "in silence"
            generator.close()
        logging.shutdown()
    return 0


if __name__ == "__main__":
    # gRPC's and gevent's threads may still wait for answers that nobody wants any more.
    os._exit(main())
