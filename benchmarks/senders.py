"""How our senders compare with others: requests per second and client CPU per request, as ratios.

All send the same tensors to the same model on the same server, one after the other in random order, again
and again; each is measured alike, from outside: requests by the server's own statistics, CPU by what the
operating system says of the sender's process, over the same window. A ratio is paired within a round, so
that a slow minute of the machine does not count. Nothing of a sender's own report is used.

    python benchmarks/senders.py --rounds 8 --window 1.5 --users 8
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import perf_analyzer
import psutil
import tritonclient.http

from harness.load.driver import Driver, Target
from harness.point import ClosedLoad, Workload
from harness.repository.probes import PROBE, probe_configuration, probe_folder
from harness.scenario import ServerSpec
from harness.servers import serving
from harness.servers.control import Control, difference
from harness.servers.staging import staged
from harness.statistics.intervals import paired_ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from harness.statistics.intervals import Interval

    # A sender sends while its block runs, and gives the id of its process.
    Sender = Callable[[], AbstractContextManager[int]]

HERE = Path(__file__).parent
# The tensors of the built-in network, answered at once.
LIKE = {
    "max_batch_size": 64,
    "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": [28, 28, 1]}],
    "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [10]}],
}
TIMEOUT_S = 30.0
BASELINES = {"HTTP": "ours, HTTP", "gRPC": "ours, gRPC"}


@dataclass(frozen=True)
class Seen:
    """One window of one sender."""

    rate_rps: float
    cpu_ms: float


def driver_sender(driver: Driver, protocol: str, users: int) -> Sender:
    """One of the harness's load generators, which waits between its turns."""

    @contextmanager
    def send() -> Iterator[int]:
        workload = Workload(protocol=protocol)
        driver.level(workload, ClosedLoad(concurrency=users), request_timeout_s=TIMEOUT_S)
        yield driver.pid
        driver.pause(timeout_s=TIMEOUT_S)

    return send


def process_sender(command: list[str], log: Path, environment: dict[str, str] | None) -> Sender:
    """A program that sends until it is killed."""

    @contextmanager
    def send() -> Iterator[int]:
        with log.open("ab") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()

    return send


def measure(sender: Sender, control: Control, warm_up_s: float, window_s: float) -> Seen:
    """One window: requests as the server counts them, CPU of the sender's process meanwhile."""
    with sender() as pid:
        process = psutil.Process(pid)
        idle = control.snapshot(PROBE)
        deadline = time.monotonic() + TIMEOUT_S
        while not difference(idle, control.snapshot(PROBE)).success_count:
            if time.monotonic() > deadline or not process.is_running():
                raise SystemExit("a sender sends nothing: see its log")
            time.sleep(0.05)
        time.sleep(warm_up_s)
        before, first = process.cpu_times(), control.snapshot(PROBE)
        time.sleep(window_s)
        after, last = process.cpu_times(), control.snapshot(PROBE)
        seen = difference(first, last)
        assert not seen.fail_count, "requests failed"
        cpu_s = after.user + after.system - before.user - before.system
    return Seen(
        rate_rps=seen.success_count / (seen.end_ns - seen.start_ns) * 1e9,
        cpu_ms=cpu_s / seen.success_count * 1e3,
    )


def senders(
    stack: ExitStack, target: Target, users: int, folder: Path, cache: Path
) -> dict[str, Sender]:
    """Every sender by name; those that cannot be had are left out, with a word."""
    raw = stack.enter_context(Driver(target, logs=folder, seed=1))
    theirs = folder / "tritonclient"
    theirs.mkdir()
    library = stack.enter_context(Driver(target, logs=theirs, sender="tritonclient", seed=1))
    value = tritonclient.http.InferInput("image", [1, 28, 28, 1], "FP32")
    value.set_data_from_numpy(np.random.default_rng(1).normal(size=(1, 28, 28, 1)).astype("f4"))
    body, json_length = tritonclient.http.InferenceServerClient.generate_request_body([value])
    (folder / "body").write_bytes(body)
    fast = [sys.executable, str(HERE / "fast_http_user.py"), "--users", str(users)]
    fast += ["--url", f"http://{target.http}/v2/models/{PROBE}/infer"]
    fast += ["--body", str(folder / "body"), "--json-length", str(json_length)]
    found = {
        "ours, HTTP": driver_sender(raw, "http", users),
        "tritonclient.http, HTTP": driver_sender(library, "http", users),
        "Locust FastHttpUser, HTTP": process_sender(fast, folder / "fast.log", None),
        "ours, gRPC": driver_sender(raw, "grpc", users),
        "tritonclient.grpc, gRPC": driver_sender(library, "grpc", users),
    }
    analyzer = perf_analyzer.prepared(cache)
    if analyzer is None:
        print("perf_analyzer cannot be had here: left out", file=sys.stderr)
        return found
    program, environment = analyzer
    for protocol, address in (("HTTP", target.http), ("gRPC", target.grpc)):
        command = [str(program), "-m", PROBE, "-u", str(address), "-i", protocol.lower()]
        command += ["--concurrency-range", str(users), "--measurement-interval", "60000"]
        log = folder / f"perf_analyzer-{protocol}.log"
        found[f"perf_analyzer, {protocol}"] = process_sender(command, log, environment)
    return found


def table(seen: dict[str, list[Seen]]) -> list[str]:
    """Markdown: medians, and ratios to ours over the same protocol with 95 % intervals."""
    columns = ("sender", "requests/s", "spread (cv)", "CPU a request")
    columns += ("requests/s, ours over theirs", "CPU, theirs over ours")
    lines = [f"| {' | '.join(columns)} |", "|---|---:|---:|---:|---:|---:|"]
    for name, windows in seen.items():
        baseline = seen[BASELINES[name.rpartition(", ")[2]]]
        rates = np.array([window.rate_rps for window in windows])
        cpu = float(np.median([window.cpu_ms for window in windows]))
        ratios = ["1", "1"]
        if windows is not baseline:
            ratios = [
                written(
                    paired_ratio([b.rate_rps for b in baseline], [w.rate_rps for w in windows])
                ),
                written(paired_ratio([w.cpu_ms for w in windows], [b.cpu_ms for b in baseline])),
            ]
        lines.append(
            f"| {name} | {np.median(rates):,.0f} | {rates.std(ddof=1) / rates.mean():.0%}"
            f" | {cpu:.3f} ms | {ratios[0]} | {ratios[1]} |"
        )
    return lines


def written(ratio: Interval) -> str:
    """A ratio with its interval."""
    return f"{ratio.estimate:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=8, help="requests in flight (8)")
    parser.add_argument("--rounds", type=int, default=8, help="windows of each sender (8)")
    parser.add_argument("--window", type=float, default=1.5, help="seconds of a window (1.5)")
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds before it (0.5)")
    parser.add_argument("--seed", type=int, default=1, help="of the random order (1)")
    parser.add_argument("--json", type=Path, help="write every window's figures there too")
    parser.add_argument(
        "--cache", type=Path, default=Path("build/benchmarks"), help="where perf_analyzer is kept"
    )
    options = parser.parse_args()
    if options.rounds < 3:
        parser.error("--rounds: an interval needs three")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = stack.enter_context(staged({PROBE: probe_folder()}, "benchmark"))
        spec = ServerSpec()
        server = stack.enter_context(serving(spec, repository, logs=folder, run_id="benchmark"))
        control = stack.enter_context(Control(server.endpoints))
        control.load(PROBE, probe_configuration(LIKE, sleep_us=0), deadline_s=60)
        target = Target(
            server.endpoints.http, server.endpoints.grpc, PROBE, batched=True, reference=None
        )
        found = senders(stack, target, options.users, folder, options.cache.resolve())
        order, rng = list(found), random.Random(options.seed)  # noqa: S311 - only the order
        seen: dict[str, list[Seen]] = {name: [] for name in found}
        for number in range(options.rounds):
            rng.shuffle(order)
            for name in order:
                seen[name].append(measure(found[name], control, options.warm_up, options.window))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    cores = psutil.cpu_count()
    print(
        f"{options.users} users, {options.rounds} windows of {options.window:g} s, {cores} cores,"
    )
    print(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}\n")
    print("\n".join(table(seen)))
    if options.json:
        plain = {name: [vars(window) for window in windows] for name, windows in seen.items()}
        options.json.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    main()
