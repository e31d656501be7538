"""What a scenario may turn on: cores of one's own, a response cache, a rate limiter."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton

from harness.archive import open_run
from harness.bench import open_bench
from harness.experiment import make_plan
from harness.repository.features import with_features
from harness.scenario import ServerSpec, parse_scenario
from harness.servers import serving
from harness.servers.control import Control
from harness.servers.staging import staged

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Harness = Callable[..., subprocess.CompletedProcess[str]]

MODELS = Path(__file__).parents[1] / "models"
SLEEP_S = 0.1  # long beside all that a busy machine adds to it
SCENARIO = """\
server: {{response_cache: 64m, cpus: [{first}], memory: 4g}}
generator: {{cpus: [{last}]}}
sweep: {{concurrency: 4}}
measure: {{window: 2s, passes: 1, sentinels: false}}
"""


@pytest.mark.long
def test_repeated_inputs_hit_the_cache_and_the_report_says_so(
    harness: Harness, triton_models: Path, tmp_path: Path
) -> None:
    cores = sorted(os.sched_getaffinity(0))
    scenario = tmp_path / "cached.yaml"
    scenario.write_text(SCENARIO.format(first=cores[0], last=cores[-1]))
    options = ("--models", triton_models, "--output", tmp_path)
    page = Path(harness("run", scenario, *options, code=(0, 4)).stdout.splitlines()[-1])
    run = open_run(page.parent)
    (trial,) = run.trials()
    assert trial.failure is None
    assert trial.differences == ()
    assert trial.effective is not None
    assert trial.effective["response_cache"] == {"enable": True}
    assert trial.statistics is not None
    # The generator has fewer inputs than it sends requests within warm-up and window.
    assert trial.statistics.cache_hit_count > 0
    assert "response cache was on and gave" in page.read_text()
    record = run.record()
    assert record.scenario["generator"]["cpus"] == [cores[-1]]
    assert record.server["cpus"] == [cores[0]]
    assert record.server["memory"]["bytes"] == 4 << 30
    where = f"core {cores[0]}, the load generator on core {cores[-1]}"
    assert where in page.read_text()


def test_the_server_and_the_generator_keep_to_their_own_cores(
    triton_models: Path, tmp_path: Path
) -> None:
    """As the kernel says it, of all their threads."""
    cores = sorted(os.sched_getaffinity(0))
    first, last = cores[0], cores[-1]
    text = SCENARIO.format(first=first, last=last)
    scenario = parse_scenario(text, name="cores", where="cores.yaml")
    models = make_plan(scenario, text, triton_models).models
    with open_bench(scenario, models, tmp_path, "cores", {}) as bench:
        assert isinstance(bench.control, Control)
        bench.control.load("cnn", deadline_s=60)
        roles = bench.server.processes()
        assert {role for role, _ in roles} == {"server", "stub"}
        for _, pid in roles:
            assert affinities(pid) == {frozenset({first})}
        assert affinities(bench.driver.pid) == {frozenset({last})}


def affinities(pid: int) -> set[frozenset[int]]:
    """The cores that the threads of a process may run on."""
    found = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # one that has just ended
            found.add(frozenset(os.sched_getaffinity(int(thread.name))))
    return found


def test_cores_that_are_not_here_are_refused_before_anything_starts(
    harness: Harness, triton_models: Path, tmp_path: Path
) -> None:
    scenario = tmp_path / "cores.yaml"
    scenario.write_text("generator: {cpus: 4095}\nsweep: {concurrency: 1}\n")
    done = harness("run", scenario, "--models", triton_models, "--output", tmp_path, code=2)
    assert "generator.cpus: no core 4095 here" in done.stderr
    assert not list(tmp_path.glob("*/run.json"))


@pytest.mark.long
@pytest.mark.parametrize("slots", [1, 2])
def test_the_rate_limiter_holds_executions_to_what_there_is(tmp_path: Path, slots: int) -> None:
    """Two instances that sleep: one after the other where there is one slot."""
    limiter = {"resources": {"slot": 1}, "available": {"slot": slots}}
    spec = ServerSpec.model_validate({"rate_limiter": limiter})
    requests, instances = 8, 2
    with (
        staged({"sleep": MODELS / "sleep"}, "test") as repository,
        serving(spec, repository, logs=tmp_path, run_id="test") as server,
        Control(server.endpoints, log=server.log) as control,
        ThreadPoolExecutor(requests) as pool,
        triton.InferenceServerClient(server.endpoints.grpc) as client,
    ):
        control.load("sleep", deadline_s=60)
        config = control.effective_configuration("sleep")
        config["instance_group"] = [{"count": instances, "kind": "KIND_CPU"}]
        config["parameters"]["sleep_us"] = {"string_value": str(round(SLEEP_S * 1e6))}
        config.pop("dynamic_batching", None)
        control.load("sleep", with_features(config, spec), deadline_s=60)
        tensor = triton.InferInput("X", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 1), np.float32))

        def elapsed_s() -> float:
            start = time.monotonic()
            answers = [
                pool.submit(client.infer, "sleep", [tensor], client_timeout=30)
                for _ in range(requests)
            ]
            for answer in answers:
                answer.result()
            return time.monotonic() - start

        quickest_s = min(elapsed_s() for _ in range(5))
    if slots == 1:
        assert quickest_s >= requests * SLEEP_S
    else:
        assert quickest_s < requests * SLEEP_S
