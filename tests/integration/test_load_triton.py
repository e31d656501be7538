"""Load on a real Triton: the same answers over every path, counts that agree, levels, and real concurrency."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from harness.errors import EnvironmentFailedError, UsageError
from harness.load.driver import LATENCIES, Driver, LoadGeneratorDiedError, Target
from harness.load.examples import draw, from_reference
from harness.load.links.watchdog import Watchdog
from harness.load.metadata import examples
from harness.load.outcomes import FailedRequestError
from harness.load.senders import Sender, connect, prepare
from harness.point import ClosedLoad, OpenLoad, Workload
from harness.records import GeneratorHealth, Outcome, StatisticsWindow
from harness.reference import Reference, write_reference
from harness.repository.configuration import read_configuration
from harness.scenario import ServerSpec
from harness.servers import serving
from harness.servers.control import Control, Snapshot, difference
from harness.servers.staging import staged
from tests.footprint import freeze, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.servers.server import Server

MODELS = Path(__file__).parents[1] / "models"
PATHS = [(p, s) for p in ("http", "grpc") for s in ("raw", "tritonclient")]
PATIENCE_S = 30.0  # for what comes at once unless this machine is busy


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("load")


@pytest.fixture(scope="module")
def server(logs: Path) -> Iterator[Server]:
    folders = {path.name: path for path in MODELS.iterdir() if path.is_dir()}
    with ExitStack() as stack:
        repository = stack.enter_context(staged(folders, "load"))
        yield stack.enter_context(serving(ServerSpec(), repository, logs=logs, run_id="load"))


@pytest.fixture(scope="module")
def control(server: Server) -> Iterator[Control]:
    with Control(server.endpoints) as control:
        for name in ("identity", "wrong", "nan"):
            control.load(name, deadline_s=60)
        yield control


@pytest.fixture(scope="module")
def identity(server: Server, control: Control, logs: Path) -> Target:
    path = logs / "reference.npz"
    values = np.random.default_rng(1).normal(size=(100, 1)).astype(np.float32)
    write_reference(path, Reference({"X": values}, {"Y": values}))
    return Target(server.endpoints.http, server.endpoints.grpc, "identity", True, path)


@pytest.fixture(scope="module")
def sleep(control: Control) -> Callable[[int, int], None]:
    """Load the model that sleeps, with a sleep in µs and a number of instances."""

    def load(sleep_us: int, instances: int, **changes: Any) -> None:
        # From the file: what an earlier test has changed does not stay.
        configuration = read_configuration(MODELS / "sleep" / "config.pbtxt")
        configuration["parameters"] = {"sleep_us": {"string_value": str(sleep_us)}}
        configuration["instance_group"] = [{"count": instances, "kind": "KIND_CPU"}]
        control.load("sleep", {**configuration, **changes}, deadline_s=120)

    return load


@pytest.fixture(scope="module", params=["raw", "tritonclient"])
def driver(request: pytest.FixtureRequest, identity: Target, logs: Path) -> Iterator[Driver]:
    with Driver(identity, logs=logs, sender=request.param, seed=1) as driver:
        yield driver


@pytest.fixture
def raw(identity: Target, logs: Path) -> Iterator[Driver]:
    with Driver(identity, logs=logs, seed=1) as driver:
        yield driver


def send_all(target: Target, workload: Workload, sender: Sender) -> list[Any]:
    """Send every request of a pool once; return the answers, or how the requests failed."""
    watchdog = Watchdog()
    pool = prepare(target, examples(target, 1), workload, sender, 1)
    link = connect(target, workload, sender, watchdog)
    results: list[Any] = []
    for index, request in enumerate(pool.requests):
        try:
            link.open(PATIENCE_S)
            raw = link.exchange(request, (), PATIENCE_S)
            results.append(pool.checker._parse(raw))
        except FailedRequestError as failed:
            results.append(failed.outcome)
            continue
        outcome, _, reason = pool.checker.check(index, raw)
        results.append((outcome, reason))
    link.close()
    watchdog.close()
    return results


@pytest.mark.parametrize("batch_size", [1, 5])
def test_every_path_gets_the_same_answers(identity: Target, batch_size: int) -> None:
    cases = draw(from_reference(identity), identity, batch_size, 1)
    wanted = [case.inputs[0][1].tobytes() for case in cases]
    for protocol, sender in PATHS:
        results = send_all(identity, Workload(protocol=protocol, batch_size=batch_size), sender)
        answers, verdicts = results[::2], results[1::2]
        assert [answer.outputs[0].data for answer in answers] == wanted, (protocol, sender)
        assert {answer.outputs[0].shape for answer in answers} == {(batch_size, 1)}
        assert set(verdicts) == {(Outcome.OK, None)}


@pytest.mark.parametrize("model", ["wrong", "nan"])
def test_every_path_finds_the_same_wrong_answers(identity: Target, model: str) -> None:
    found = [
        send_all(replace(identity, model=model), Workload(protocol=protocol), sender)[1::2]
        for protocol, sender in PATHS
    ]
    assert {outcome for outcome, _ in found[0]} == {Outcome.WRONG_ANSWER}
    for other in found[1:]:
        assert other == found[0]


def test_every_path_fails_alike_when_the_model_is_not_there(identity: Target) -> None:
    for protocol, sender in PATHS:
        absent = replace(identity, model="absent")
        results = send_all(absent, Workload(protocol=protocol), sender)
        assert set(results) == {Outcome.HTTP_4XX}, (protocol, sender)


def collected(driver: Driver, users: int) -> tuple[np.ndarray, GeneratorHealth]:
    """What was recorded until all users were in flight at once, and for a while at least."""
    start, deadline = time.monotonic_ns(), time.monotonic() + PATIENCE_S
    while True:
        time.sleep(0.3)
        samples, fared = driver.collect(start, time.monotonic_ns())
        all_seen = len(set(samples["user"])) >= users and fared.max_in_flight >= users
        if (all_seen and fared.cpu_s) or time.monotonic() > deadline:
            return samples, fared


def has_sent(driver: Driver, requests: int = 1) -> None:
    """Wait until so many requests of the level are done."""
    wait_until(lambda: len(driver.collect(0, 1)[0]) >= requests, PATIENCE_S, "answers")


def settled(control: Control, model: str) -> Snapshot:
    """The statistics once the server counts no more: nothing is sent, and the last is counted after its answer."""
    while True:
        before = control.snapshot(model)
        time.sleep(0.2)
        after = control.snapshot(model)
        if after.counts == before.counts:
            return after


def counted_by(control: Control, model: str, before: Snapshot, requests: int) -> StatisticsWindow:
    """The statistics once the server has counted its last request, which comes after its answer."""
    wait_until(
        lambda: difference(before, control.snapshot(model)).success_count >= requests, PATIENCE_S
    )
    return difference(before, control.snapshot(model))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_levels_follow_each_other_without_draining(
    driver: Driver, control: Control, identity: Target, protocol: str
) -> None:
    """Up and down, with other batches; each user goes over between two requests, and none is killed."""
    driver.pause(timeout_s=10)
    driver.aim(identity)
    before = control.snapshot("identity")
    counted = 0
    levels = [(8, 1), (2, 4), (16, 2)]
    for concurrency, batch_size in levels:
        driver.level(
            Workload(protocol=protocol, batch_size=batch_size),
            ClosedLoad(concurrency=concurrency),
            request_timeout_s=10,
        )
        samples, fared = collected(driver, concurrency)
        assert set(samples["outcome"]) == {Outcome.OK}
        assert set(samples["batch"]) == {batch_size}, "of an earlier level"
        assert set(samples["user"]) == set(range(concurrency))
        assert (np.diff(samples["done_ns"]) >= 0).all()
        assert fared.max_in_flight == concurrency
        assert (fared.reconnects, fared.unsent) == (0, 0)
        assert fared.cpu_s is not None
        assert 0 < fared.cpu_s < 2 * fared.window_s
        counted += len(samples)
    driver.pause(timeout_s=10)
    seen = counted_by(control, "identity", before, counted)
    assert seen.success_count >= counted
    assert seen.fail_count == 0


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_server_counts_the_same_requests(
    driver: Driver, control: Control, identity: Target, protocol: str
) -> None:
    driver.pause(timeout_s=10)
    driver.aim(identity)
    before = settled(control, "identity")
    workload = Workload(protocol=protocol, batch_size=3)
    driver.level(workload, ClosedLoad(concurrency=7), request_timeout_s=10)
    time.sleep(0.5)
    driver.pause(timeout_s=10)
    samples, _ = driver.collect(0, 1)
    seen = counted_by(control, "identity", before, len(samples))
    assert seen.success_count == len(samples)
    assert seen.inference_count == samples["batch"].sum()


def test_latencies_are_those_of_the_samples(driver: Driver, identity: Target) -> None:
    driver.pause(timeout_s=10)
    driver.aim(identity)
    driver.level(Workload(), ClosedLoad(concurrency=2), request_timeout_s=PATIENCE_S)
    has_sent(driver, 100)
    driver.pause(timeout_s=PATIENCE_S)
    samples, _ = driver.collect(0, 1)
    expected = (samples["done_ns"] - samples["scheduled_ns"]) / 1e6
    np.testing.assert_array_equal(driver.latencies(), expected[-LATENCIES:])


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_users_are_in_flight_at_once(
    raw: Driver,
    control: Control,
    identity: Target,
    sleep: Callable[..., None],
    protocol: str,
) -> None:
    """As many as there are users, as the server saw them: each sleeps in an instance of its own.

    Throughput times the server's own time for a request is the number that it had in hand. The throughput
    comes from whole cycles, so that nothing is cut at an edge. In the trap of gRPC under gevent, 10 of the
    16 users would be in flight, and most cycles would take two sleeps: where one takes longer, this machine
    paused.
    """
    users, sleep_ms = 16, 500
    sleep(sleep_ms * 1000, users)
    before = control.snapshot("sleep")
    raw.aim(replace(identity, model="sleep"))
    raw.level(Workload(protocol=protocol), ClosedLoad(concurrency=users), request_timeout_s=30)
    has_sent(raw, 7 * users)
    raw.pause(timeout_s=30)
    samples, fared = raw.collect(0, time.monotonic_ns())
    seen = counted_by(control, "sleep", before, len(samples))
    cycles_ms = np.concatenate(
        [np.diff(samples["done_ns"][samples["user"] == user]) / 1e6 for user in range(users)]
    )
    cycle_ms = cycles_ms[cycles_ms < 2.5 * sleep_ms].mean()
    in_flight = users * seen.success_ns / seen.success_count / 1e6 / cycle_ms
    assert in_flight >= 0.75 * users, f"{in_flight:.1f} of {users}"
    assert seen.success_count == len(samples)
    assert fared.max_in_flight == users


FAST_AMONG_SLOW = """
import sys
import gevent.monkey
gevent.monkey.patch_all()
import time
import gevent
from harness.load.examples import from_metadata
from harness.load.links.grpc_threads import prepare_grpc
from harness.load.senders import connect, prepare
from harness.load.target import Target
from harness.load.links.watchdog import Watchdog
from harness.point import Workload

address, slow_users, sender = sys.argv[1], int(sys.argv[2]), sys.argv[3]
prepare_grpc()
watchdog = Watchdog()
workload = Workload(protocol="grpc")
shape = [{"name": name, "datatype": "FP32", "shape": [-1, 1]} for name in "XY"]
examples = from_metadata({"inputs": shape[:1], "outputs": shape[1:]}, batched=True, seed=1)

def latency_s(model):
    target = Target("", address, model)
    link = connect(target, workload, sender, watchdog)
    request = prepare(target, examples, workload, sender, 1).requests[0]
    start = time.monotonic()
    link.open(30)
    link.exchange(request, (), 30)
    took_s = time.monotonic() - start
    link.close()
    return took_s

for _ in range(3):  # this machine may pause just while the fast one is on its way
    slow = [gevent.spawn(latency_s, "sleep") for _ in range(slow_users)]
    gevent.sleep(0.3)
    fast_s = latency_s("identity")
    slow_s = min(greenlet.get() for greenlet in slow)
    if fast_s < slow_s / 2:
        break
print(fast_s, slow_s, flush=True)
"""


@pytest.mark.parametrize("sender", ["raw", "tritonclient"])
def test_slow_calls_do_not_hold_up_fast_ones(
    identity: Target, sleep: Callable[..., None], tmp_path: Path, sender: str
) -> None:
    """The trap of gRPC under gevent: each call waits in one of 10 threads, the fast behind the slow."""
    slow_calls = 16
    sleep(1_500_000, slow_calls)
    script = tmp_path / "fast_among_slow.py"
    script.write_text(FAST_AMONG_SLOW)
    command = [sys.executable, str(script), str(identity.grpc), str(slow_calls), sender]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    fast_s, slow_s = map(float, done.stdout.split())
    assert slow_s >= 1.5
    assert fast_s < slow_s / 2  # behind them it would have taken four fifths of that, at least


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_full_queue_is_a_rejection(
    driver: Driver, identity: Target, sleep: Callable[..., None], protocol: str
) -> None:
    sleep(
        50_000,
        1,
        max_batch_size=1,
        dynamic_batching={"default_queue_policy": {"max_queue_size": 2}},
    )
    driver.pause(timeout_s=10)
    driver.aim(replace(identity, model="sleep"))
    driver.level(Workload(protocol=protocol), ClosedLoad(concurrency=8), request_timeout_s=10)
    both = {Outcome.OK, Outcome.REJECTED}
    wait_until(lambda: both <= set(driver.collect(0, 1)[0]["outcome"]), PATIENCE_S)
    driver.pause(timeout_s=10)
    samples, _ = driver.collect(0, 1)
    assert set(samples["outcome"]) == both


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_open_loop_keeps_its_schedule(driver: Driver, identity: Target, protocol: str) -> None:
    driver.pause(timeout_s=10)
    driver.aim(identity)
    load = OpenLoad(rate=100, arrivals="constant", max_in_flight=20)
    driver.level(Workload(protocol=protocol), load, request_timeout_s=10)
    time.sleep(1)
    _, fared = driver.collect(0, time.monotonic_ns())
    driver.pause(timeout_s=10)  # else one may still be on its way whose followers are back
    samples, _ = driver.collect(0, 1)
    scheduled = np.sort(samples["scheduled_ns"])
    np.testing.assert_allclose(np.diff(scheduled), 10_000_000, atol=1)
    assert (samples["sent_ns"] >= samples["scheduled_ns"]).all(), "sent before it was due"
    assert set(samples["outcome"]) == {Outcome.OK}
    assert len(samples) + fared.unsent >= 100 - load.max_in_flight


def test_a_cap_on_requests_in_flight_shows_in_the_response_time(
    raw: Driver, identity: Target, sleep: Callable[..., None]
) -> None:
    sleep(20_000, 4)
    raw.aim(replace(identity, model="sleep"))
    load = OpenLoad(rate=200, arrivals="poisson", max_in_flight=1)
    raw.level(Workload(), load, request_timeout_s=10)
    time.sleep(1.5)
    end = time.monotonic_ns()
    samples, fared = raw.collect(0, end)
    start = samples["scheduled_ns"].min()  # to begin a level may take a busy machine seconds
    service = (samples["done_ns"] - samples["sent_ns"]) / 1e6
    response = (samples["done_ns"] - samples["scheduled_ns"]) / 1e6
    assert fared.max_in_flight == 1
    assert np.median(response) > 5 * np.median(service)
    assert (np.diff(samples["scheduled_ns"]) > 0).all(), "in the order in which they were due"
    due = len(samples) + fared.unsent
    assert due == pytest.approx(200 * (end - start) / 1e9, rel=0.4)
    assert fared.unsent > due / 2


def test_arrivals_differ_from_level_to_level(raw: Driver, identity: Target) -> None:
    gaps = []
    for _ in range(2):
        raw.level(Workload(), OpenLoad(rate=300, max_in_flight=8), request_timeout_s=10)
        has_sent(raw, 40)
        samples, _ = raw.collect(0, 1)
        gaps.append(np.diff(np.sort(samples["scheduled_ns"]))[:20])
    assert not np.array_equal(*gaps)


def test_an_unanswered_request_ends_a_pause_with_a_reason(
    raw: Driver, identity: Target, sleep: Callable[..., None]
) -> None:
    sleep(5_000_000, 1)
    raw.aim(replace(identity, model="sleep"))
    raw.level(Workload(), ClosedLoad(concurrency=2), request_timeout_s=0.3)
    start = time.monotonic()
    raw.pause(timeout_s=0.1)  # they time out
    assert time.monotonic() - start < 9  # to answer both would take the server 10 s
    samples, _ = raw.collect(0, 1)
    assert Outcome.TIMEOUT in samples["outcome"]


def test_without_a_reference_random_inputs_fit(raw: Driver, identity: Target) -> None:
    raw.aim(replace(identity, reference=None))
    raw.level(Workload(batch_size=3), ClosedLoad(concurrency=2), request_timeout_s=PATIENCE_S)
    has_sent(raw)
    samples, _ = raw.collect(0, 1)
    assert set(samples["outcome"]) == {Outcome.OK}
    assert not samples["compared"].any()


def test_what_cannot_be_sent_is_refused_and_the_generator_goes_on(
    raw: Driver, identity: Target
) -> None:
    load = ClosedLoad(concurrency=1)
    raw.aim(replace(identity, grpc=None))
    with pytest.raises(UsageError, match="no gRPC"):
        raw.level(Workload(protocol="grpc"), load, request_timeout_s=1)
    raw.aim(replace(identity, batched=False))
    with pytest.raises(UsageError, match="takes no batches"):
        raw.level(Workload(batch_size=2), load, request_timeout_s=1)
    raw.aim(replace(identity, model="absent", reference=None))
    with pytest.raises(EnvironmentFailedError, match="unknown model"):
        raw.level(Workload(), load, request_timeout_s=1)
    raw.aim(identity)
    raw.level(Workload(), load, request_timeout_s=1)
    with pytest.raises(EnvironmentFailedError, match="paused"):
        raw.aim(replace(identity, model="wrong"))
    assert raw.failure() is None


def test_nothing_is_left_of_a_generator_that_was_closed(identity: Target, logs: Path) -> None:
    for protocol in ("http", "grpc"):
        with Driver(identity, logs=logs, seed=1) as driver:
            pid = driver.pid
            driver.level(
                Workload(protocol=protocol), ClosedLoad(concurrency=16), request_timeout_s=60
            )
            start = time.monotonic()
        assert time.monotonic() - start < 20  # it does not wait for its users
        assert not psutil.pid_exists(pid)


def test_a_generator_that_dies_says_so(raw: Driver, identity: Target) -> None:
    raw.level(Workload(), ClosedLoad(concurrency=4), request_timeout_s=10)
    assert raw.failure() is None
    os.kill(raw.pid, signal.SIGKILL)
    with pytest.raises(LoadGeneratorDiedError, match="is gone"):
        raw.collect(0, 1)
    wait_until(raw.failure, PATIENCE_S)
    assert "status -9" in str(raw.failure())


def test_a_generator_that_hangs_is_not_waited_for_ever(
    raw: Driver, identity: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.load.driver.ANSWER_S", 0.3)
    freeze(raw.pid)
    with pytest.raises(LoadGeneratorDiedError, match="did not answer within"):
        raw.latencies()
    raw.close()
    assert not any("harness.load" in " ".join(p.cmdline()) for p in psutil.Process().children())


def test_a_generator_that_cannot_start_says_why(
    identity: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locust.py").write_text("raise SystemExit('no locust here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        pytest.raises(LoadGeneratorDiedError, match="no locust here"),
        Driver(identity, logs=tmp_path, seed=1),
    ):
        pass
