"""What is read beside a real Triton while it works: its own metrics, and what reading them costs."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton

from harness.scenario import ServerSpec
from harness.servers import serving
from harness.servers.control import Control
from harness.servers.metric_log import MetricLog
from harness.servers.sources import sources_of
from harness.servers.staging import staged
from tests.footprint import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.servers.metric_log import MetricReading
    from harness.servers.server import Server

MODELS = Path(__file__).parents[1] / "models"
PENDING = "nv_inference_pending_request_count"
USERS, REQUESTS, SLEEP_S = 8, 40, 0.02


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    logs = tmp_path_factory.mktemp("logs")
    folders = {name: MODELS / name for name in ("sleep", "identity")}
    with (
        staged(folders, "metrics") as repository,
        serving(ServerSpec(), repository, logs=logs, run_id="metrics") as server,
        Control(server.endpoints, log=server.log) as control,
    ):
        for model in folders:
            control.load(model, deadline_s=60)
        yield server


def send(server: Server, requests: int) -> None:
    """Send requests to the model that sleeps for 20 ms, one after the other."""
    with triton.InferenceServerClient(server.endpoints.grpc) as client:
        tensor = triton.InferInput("X", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
        for _ in range(requests):
            client.infer("sleep", [tensor], client_timeout=60)


def values(rows: list[MetricReading], name: str) -> list[float]:
    assert {json.loads(row[3])["model"] for row in rows if row[2] == name} <= {"sleep"}
    return [row[4] for row in rows if row[2] == name]


def test_pending_requests_are_seen_while_they_wait(server: Server) -> None:
    """One instance that sleeps, and eight users: one is served, and seven wait."""
    with MetricLog(0.05) as log:
        log.start(sources_of(server, ["sleep"]))
        wait_until(lambda: values(log.drain(), PENDING) == [0])
        began_s = time.monotonic()
        with ExitStack() as stack:
            for _ in range(USERS):
                thread = threading.Thread(target=send, args=(server, REQUESTS))
                stack.callback(thread.join)
                thread.start()
        took_s = time.monotonic() - began_s
        log.refresh()
        rows = log.drain()
        pending = values(rows, PENDING)
        # Users need time to start, and the last ones end alone.
        assert took_s >= USERS * REQUESTS * SLEEP_S
        assert max(pending) == USERS - 1
        assert np.median(pending) == USERS - 1
        assert pending[-1] == 0
        assert values(rows, "nv_inference_request_success")[-1] == USERS * REQUESTS
        assert [row for row in rows if row[2] == "nv_cpu_utilization"]


def test_reading_costs_next_to_nothing(server: Server) -> None:
    with MetricLog() as log:
        log.start(sources_of(server, ["sleep"]))
        wait_until(lambda: len(log.drain()) > 0)
        used_s, began_s = time.process_time(), time.monotonic()
        time.sleep(2)
        used_s, took_s = time.process_time() - used_s, time.monotonic() - began_s
        assert len({row[0] for row in log.drain()}) >= 2
    assert used_s < 0.05 * took_s  # of one core; 0.4 % on an idle machine
