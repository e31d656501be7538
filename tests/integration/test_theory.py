"""The instrument against queueing theory: a model that sleeps has a queue that is known.

One instance, no batching, arrivals of our own: an M/D/1 queue, or a closed loop. ``d``, the time of one
execution, is measured by an independent run that keeps the model busy: the saturated 1/X. Queues are measured
side by side, each on a model of its own, since sleeping takes no processor: those of one test, and those of
the first three tests. Nothing here is widened for a busy machine: what does not agree on a quiet one is wrong.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, count, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from harness.load.driver import Driver, Target
from harness.point import ClosedLoad, OpenLoad, Workload
from harness.records import Outcome
from harness.repository.configuration import read_configuration
from harness.scenario import ServerSpec
from harness.servers import serving
from harness.servers.control import Control, difference
from harness.servers.staging import staged
from harness.statistics.intervals import interval_of_passes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from harness.servers.server import Server

log = logging.getLogger(__name__)  # --log-cli-level=INFO shows the figures
MODEL = Path(__file__).parents[1] / "models" / "sleep"
UTILISATIONS = (0.3, 0.5, 0.7)  # of those whose every response time is predicted
SIDE_BY_SIDE = 15  # of those whose mean is
LOOPS = tuple(product((2, 5), ("http", "grpc")))
# One for each queue of each test: none is loaded twice, since Triton may die where several are unloaded at once.
MODELS = len(UTILISATIONS) + SIDE_BY_SIDE + len(LOOPS) + 2
TIMEOUT_S = 60.0
ATTEMPTS = 5
SATURATED_S = 10.0
SETTLED_S = 5.0  # stubs that have just started take processor time of their own
PAUSED = 0.005  # how far a pause of the machine may move the mean time between answers

pytestmark = [pytest.mark.alone, pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Triton with copies of the model that sleeps, called ``sleep0``, ``sleep1`` and so on; none is loaded."""
    root = tmp_path_factory.mktemp("theory")
    folders = {}
    for number in range(MODELS):
        name = f"sleep{number}"
        folder = folders[name] = root / name
        (folder / "1").mkdir(parents=True)
        text = (MODEL / "config.pbtxt").read_text()
        (folder / "config.pbtxt").write_text(text.replace('name: "sleep"', f'name: "{name}"'))
        (folder / "1" / "model.py").write_text((MODEL / "1" / "model.py").read_text())
    with ExitStack() as stack:
        repository = stack.enter_context(staged(folders, "theory"))
        yield stack.enter_context(serving(ServerSpec(), repository, logs=root, run_id="theory"))


@pytest.fixture(scope="module")
def control(server: Server) -> Iterator[Control]:
    with Control(server.endpoints) as control:
        yield control


class Queue:
    """One model that sleeps, no other queue's, and a load generator of its own."""

    numbers = count()

    def __init__(self, server: Server, control: Control, logs: Path) -> None:
        self.name = f"sleep{next(self.numbers)}"
        self.control = control
        self._target = Target(server.endpoints.http, server.endpoints.grpc, self.name, True, None)
        self._logs = logs / self.name
        self._logs.mkdir(exist_ok=True)

    def load(self, sleep_us: int, instances: int = 1) -> None:
        configuration = {**read_configuration(MODEL / "config.pbtxt"), "name": self.name}
        configuration["parameters"] = {"sleep_us": {"string_value": str(sleep_us)}}
        configuration["instance_group"] = [{"count": instances, "kind": "KIND_CPU"}]
        self.control.load(self.name, configuration, deadline_s=180)

    def driver(self, seed: int, sender: Literal["raw", "tritonclient"] = "raw") -> Driver:
        return Driver(self._target, logs=self._logs, seed=seed, sender=sender)

    def send(
        self, driver: Driver, load: ClosedLoad | OpenLoad, duration_s: float, protocol: Any = "http"
    ) -> np.ndarray:
        """All samples of a load that begins with an empty queue and ends with one."""
        driver.level(Workload(protocol=protocol), load, request_timeout_s=TIMEOUT_S)
        time.sleep(duration_s)
        driver.pause(timeout_s=TIMEOUT_S)
        samples, fared = driver.collect(0, 1)
        assert fared.unsent == 0
        assert set(samples["outcome"]) == {Outcome.OK}
        return samples

    def saturated_ms(self, driver: Driver) -> float:
        """d: the time between two answers while the model is never idle.

        A machine that stands still for 0.3 s meanwhile makes d 3 % too long for all that is measured after
        it. Then the mean time lies above the middle one, and it is measured anew, at most three times.
        """
        found = []
        for _ in range(3):
            samples = self.send(driver, ClosedLoad(concurrency=3), SATURATED_S)
            d_ms = between_answers_ms(samples, users=3)
            middle_ms = float(np.median(gaps_ms(samples, users=3)))
            found.append((abs(d_ms / middle_ms - 1), d_ms))
            log.info("%s: d %.2f ms, the middle one %.2f ms", self.name, d_ms, middle_ms)
            if found[-1][0] <= PAUSED:
                break
        return min(found)[1]


def gaps_ms(samples: np.ndarray, users: int) -> np.ndarray:
    """From answer to answer while all users are at work: not the first, and not those of the drain."""
    return np.diff(np.sort(samples["done_ns"])[users:-users]) / 1e6


def between_answers_ms(samples: np.ndarray, users: int) -> float:
    """1/X while all users are at work."""
    return float(gaps_ms(samples, users).mean())


def predicted_ms(scheduled_ns: np.ndarray, d_ms: float) -> np.ndarray:
    """Every response time by Lindley's recursion: who comes finds what the one before it left."""
    between_ms = np.diff(scheduled_ns) / 1e6
    waiting = [0.0]
    for gap_ms in between_ms:
        waiting.append(max(0.0, waiting[-1] + d_ms - gap_ms))
    return np.array(waiting) + d_ms


def response_ms(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """When requests were due (ns), in that order, and their response times."""
    samples = np.sort(samples, order="scheduled_ns")
    return samples["scheduled_ns"], (samples["done_ns"] - samples["scheduled_ns"]) / 1e6


def side_by_side(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))


def until_they_agree(measure: Callable[[], tuple[str, bool]]) -> None:
    """Measure at most five times, all of it anew, until theory and measurement agree.

    The bounds are not widened for a machine that stands still for half a second, which alone moves a mean
    over 300 requests by 3 %; an instrument that is off is off each time.
    """
    for _ in range(ATTEMPTS):
        said, agrees = measure()
        log.info(said)
        if agrees:
            return
    pytest.fail(f"not once in {ATTEMPTS} times; at last {said}")


@pytest.fixture(scope="module")
def measuring(
    server: Server, control: Control, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """What the first three tests measure, all of it under way at once."""
    logs = tmp_path_factory.mktemp("queues")
    asked = {
        lindley: (len(UTILISATIONS), 100_000),
        m_d_1: (SIDE_BY_SIDE, 50_000),
        closed_loops: (len(LOOPS), 200_000),
    }
    # All models before any is measured: a stub that starts disturbs the others. While some started, 54 ms were seen
    # between the answers of a model that takes 50.8 ms.
    queues = {
        measure: [Queue(server, control, logs) for _ in range(n)]
        for measure, (n, _) in asked.items()
    }
    every = [(queue, asked[measure][1]) for measure, made in queues.items() for queue in made]
    side_by_side(lambda pair: pair[0].load(pair[1]), every)
    time.sleep(SETTLED_S)
    with ThreadPoolExecutor(len(asked)) as pool:
        yield {measure.__name__: pool.submit(measure, queues[measure]) for measure in asked}


def lindley(queues: list[Queue]) -> None:
    def measure(number: int, attempt: int) -> tuple[str, bool]:
        queue, utilisation = queues[number], UTILISATIONS[number]
        with queue.driver(seed=10 * attempt + number) as driver:
            d_ms = queue.saturated_ms(driver)
            load = OpenLoad(rate=utilisation / d_ms * 1e3, arrivals="poisson")
            scheduled_ns, took_ms = response_ms(queue.send(driver, load, duration_s=125))
        predicted = predicted_ms(scheduled_ns, d_ms)
        ratio = took_ms.mean() / predicted.mean()
        said = (
            f"utilisation {utilisation}: d {d_ms:.2f} ms, {len(took_ms)} requests, predicted"
            f" {predicted.mean():.2f} ms, measured {took_ms.mean():.2f} ms, ratio {ratio:.4f},"
            f" median of the differences {np.median(took_ms - predicted):.2f} ms"
        )
        assert len(took_ms) >= 300, said
        return said, abs(ratio - 1) <= 0.03

    def work(number: int) -> None:
        attempts = count()
        until_they_agree(lambda: measure(number, next(attempts)))

    side_by_side(work, range(len(queues)))


def m_d_1(queues: list[Queue]) -> None:
    utilisation, requests, left_out, passes, rounds = 0.5, 630, 30, 5, 2

    def measure(number: int) -> list[bool]:
        queue = queues[number]
        with queue.driver(seed=number) as driver:
            d_ms = queue.saturated_ms(driver)
        truth_ms = d_ms * (1 + utilisation / (2 * (1 - utilisation)))
        rate = utilisation / d_ms * 1e3
        held = []
        for again in range(rounds):
            with queue.driver(seed=again * SIDE_BY_SIDE + number) as driver:
                load = OpenLoad(rate=rate, arrivals="poisson")
                samples = queue.send(driver, load, duration_s=1.15 * requests / rate)
            took_ms = response_ms(samples)[1][left_out:requests]
            assert len(took_ms) == requests - left_out
            parts = np.array_split(took_ms, passes)
            held.append(interval_of_passes([part.mean() for part in parts]).contains(truth_ms))
        return held

    def all_of_them() -> tuple[str, bool]:
        held = list(chain.from_iterable(side_by_side(measure, range(SIDE_BY_SIDE))))
        assert len(held) == 30
        return f"{sum(held)} of {len(held)} intervals hold the mean", sum(held) >= 25

    until_they_agree(all_of_them)


def closed_loops(queues: list[Queue]) -> None:
    def measure(queue: Queue, users: int, protocol: str) -> tuple[str, bool]:
        with queue.driver(seed=1) as driver:
            before = queue.control.snapshot(queue.name)
            queue.send(driver, ClosedLoad(concurrency=1), SATURATED_S, protocol)
            alone = difference(before, queue.control.snapshot(queue.name))
            samples = queue.send(driver, ClosedLoad(concurrency=users), SATURATED_S, protocol)
        full = np.sort(samples, order="done_ns")[users:-users]
        latency_ms = float((full["done_ns"] - full["sent_ns"]).mean() / 1e6)
        d_ms = alone.success_ns / alone.success_count / 1e6
        between_ms = between_answers_ms(samples, users)
        off_x, off_r = d_ms / between_ms - 1, latency_ms / (users * d_ms) - 1
        said = (
            f"{protocol}, {users} users: d {d_ms:.2f} ms, 1/X {between_ms:.2f} ms (X {off_x:+.2%}),"
            f" R {latency_ms:.2f} ms ({off_r:+.2%})"
        )
        assert d_ms >= 200, said
        return said, abs(off_x) <= 0.02 and abs(off_r) <= 0.02

    def work(number: int) -> None:
        until_they_agree(lambda: measure(queues[number], *LOOPS[number]))

    side_by_side(work, range(len(queues)))


def test_every_response_time_is_that_of_lindleys_recursion(
    measuring: dict[str, Future[None]],
) -> None:
    """Poisson arrivals at three utilisations: the mean within 3 % over at least 300 requests."""
    measuring["lindley"].result()


def test_the_intervals_of_seeded_runs_hold_the_mean_of_an_m_d_1_queue(
    measuring: dict[str, Future[None]],
) -> None:
    """30 runs of 600 requests, in five parts as passes are: at least 25 of the 95 % intervals.

    The seeds stand, so on a quiet machine chance plays no part: intervals that are too narrow fail each time.

    With more, shorter parts these are not independent enough of each other: in exact simulation 93 of 100
    intervals hold the mean with five parts of 120 requests, and 92 with eight of 75. Of these very seeds it
    is 29 of 30 and 25 of 30, so that with eight parts the last bit of noise would decide.
    """
    measuring["m_d_1"].result()


def test_a_closed_loop_has_the_throughput_and_latency_of_theory(
    measuring: dict[str, Future[None]],
) -> None:
    """X = 1/d and R = N·d within 2 %, d being the server's own time for a request at N = 1.

    That time is measured where a request finds an idle model; where one waits already, Triton hands it
    over a little sooner or later: a millisecond has been seen on a busy machine. So of the 2 % of 200 ms a
    quarter is d's own.
    """
    measuring["closed_loops"].result()


@pytest.mark.parametrize("sender", ["raw", "tritonclient"])
def test_64_users_of_grpc_are_64_requests_in_flight(
    server: Server, control: Control, tmp_path: Path, sender: Literal["raw", "tritonclient"]
) -> None:
    """The trap of 10 threads, as the server sees it: 64 instances sleep 200 ms each."""
    users, sleep_ms = 64, 200
    queue = Queue(server, control, tmp_path)
    queue.load(sleep_ms * 1000, instances=users)
    time.sleep(SETTLED_S)

    def measure() -> tuple[str, bool]:
        with queue.driver(seed=1, sender=sender) as driver:
            workload = Workload(protocol="grpc")
            driver.level(workload, ClosedLoad(concurrency=users), request_timeout_s=TIMEOUT_S)
            time.sleep(2)
            first = control.snapshot(queue.name)
            time.sleep(20)
            last = control.snapshot(queue.name)
            samples, fared = driver.collect(first.edge_ns, last.edge_ns)
        seen = difference(first, last)
        in_flight = seen.success_ns / (seen.end_ns - seen.start_ns)
        inside = samples[
            (samples["done_ns"] >= first.edge_ns) & (samples["done_ns"] < last.edge_ns)
        ]
        latency_ms = float((inside["done_ns"] - inside["sent_ns"]).mean() / 1e6)
        said = f"{in_flight:.1f} of {users} in flight, latency {latency_ms:.1f} ms"
        assert set(inside["outcome"]) == {Outcome.OK}
        assert fared.max_in_flight == users
        return said, in_flight >= 0.95 * users and abs(latency_ms / sleep_ms - 1) <= 0.05

    until_they_agree(measure)
