"""The quickstart's sweep recommends in a container what it recommends for the embedded server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from harness.analysis import analyse
from harness.archive import open_run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from harness.analysis.results import WorkloadResult

    Harness = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.long

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
PASSES = 3  # fewer than the quickstart's own: all of its points on two servers, in seven minutes
WITHIN = 0.05


def swept(
    harness: Harness, folder: Path, models: Path, server: dict[str, str]
) -> dict[str, WorkloadResult]:
    """Run the quickstart's sweep on a server; its result by workload."""
    scenario = yaml.safe_load(QUICKSTART.read_text())
    scenario["server"] = server
    scenario["measure"]["passes"] = PASSES
    path = folder / f"{server['kind']}.yaml"
    path.write_text(yaml.safe_dump(scenario))
    done = harness("run", path, "--models", models, "--output", folder, code=(0, 4), timeout_s=540)
    page = Path(done.stdout.splitlines()[-1])
    run = open_run(page.parent)
    assert {trial.failure for trial in run.trials()} == {None}
    analysis = analyse(run)
    assert len(analysis.results) == 36
    assert sum(result.wrong_answers for result in analysis.results) == 0
    return {result.workload.key: result for result in analysis.workloads}


def best_throughput(result: WorkloadResult, key: str) -> float:
    """What a configuration gives at its best level; 0 where none qualifies."""
    ranked = next(one for one in result.ranking if one.configuration.key == key)
    return ranked.best.throughput.estimate if ranked.best else 0.0


def test_the_container_recommends_what_the_embedded_server_does(
    harness: Harness, triton_models: Path, triton_image: str, tmp_path: Path
) -> None:
    container = {"kind": "container", "network": "host", "image": triton_image}
    embedded = swept(harness, tmp_path, triton_models, {"kind": "embedded"})
    contained = swept(harness, tmp_path, triton_models, container)
    assert embedded.keys() == contained.keys()
    compared = 0
    for key, here in embedded.items():
        there = contained[key]
        if here.winner is None or there.winner is None:
            continue  # no valid point on a machine that is too busy
        compared += 1
        mine, its = here.winner.configuration.key, there.winner.configuration.key
        tied = {one.configuration.key for one in here.tie_set}
        tied_there = {one.configuration.key for one in there.tie_set}
        close = [
            best_throughput(result, its) >= (1 - WITHIN) * best_throughput(result, mine)
            for result in (here, there)
        ]
        assert mine == its or its in tied or mine in tied_there or all(close), (mine, its)
    assert compared, "no workload had a valid winner on both servers"
