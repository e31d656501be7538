"""What is read beside a real Triton while it works: its own metrics, and what reading them costs."""

from __future__ import annotations

import gc
import json
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton

from harness.errors import EnvironmentFailedError
from harness.server_spec import ServerSpec, TraceSpec
from harness.servers import serving
from harness.servers.control import Control
from harness.servers.readings.metric_log import MetricLog
from harness.servers.readings.sources import sources_of
from harness.servers.settings import _log, _trace, record, set_log_settings, set_trace_settings
from harness.servers.staging import staged
from tests.footprint import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.servers.readings.metric_log import MetricReading
    from harness.servers.server import Server

MODELS = Path(__file__).parents[1] / "models"
PENDING = "nv_inference_pending_request_count"
SUCCESSES = "nv_inference_request_success"
USERS, REQUESTS, SLEEP_S = 8, 40, 0.02


SPEC = ServerSpec(log_verbose=1, trace=TraceSpec(rate=1, count=20))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def server(logs: Path) -> Iterator[Server]:
    folders = {name: MODELS / name for name in ("sleep", "identity")}
    with (
        staged(folders, "metrics") as repository,
        serving(SPEC, repository, logs=logs, run_id="metrics") as server,
        Control(server.endpoints, log=server.log) as control,
    ):
        for model in folders:
            control.load(model, deadline_s=60)
        yield server


@pytest.fixture(scope="module")
def control(server: Server) -> Iterator[Control]:
    with Control(server.endpoints, log=server.log) as control:
        yield control


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
        wait_until(lambda: set(values(log.drain(), PENDING)) == {0})
        began_s = time.monotonic()
        with ExitStack() as stack:
            for _ in range(USERS):
                thread = threading.Thread(target=send, args=(server, REQUESTS))
                stack.callback(thread.join)
                thread.start()
        took_s = time.monotonic() - began_s
        rows = log.drain()
        # The server counts a request a moment after its answer.
        counted = [USERS * REQUESTS]
        wait_until(lambda: rows.extend(log.drain()) or values(rows, SUCCESSES)[-1:] == counted)
        pending = values(rows, PENDING)
        # Users need time to start, and the last ones end alone.
        assert took_s >= USERS * REQUESTS * SLEEP_S
        # An answer may be sent, and the next request come, before the next one is taken; and on a busy
        # machine users need time to send their next.
        assert USERS / 2 <= np.median(pending) <= max(pending) <= USERS
        assert pending[-1] == 0
        assert [row for row in rows if row[2] == "nv_cpu_utilization"]


def test_reading_costs_next_to_nothing(server: Server) -> None:

    def used_s() -> float:
        """By the threads that read, whatever else this process may do."""
        clocks = [time.pthread_getcpuclockid(t.ident) for t in readers if t.ident and t.is_alive()]
        return sum(map(time.clock_gettime, clocks))

    rows: list[MetricReading] = []
    with MetricLog() as log:
        others = threading.enumerate()
        log.start(sources_of(server, ["sleep"]))
        readers = [thread for thread in threading.enumerate() if thread not in others]
        assert readers
        wait_until(lambda: len(log.drain()) > 0)
        gc.collect()  # else a reader may come to do it for the whole process
        before_s, began_s = used_s(), time.monotonic()
        time.sleep(2)
        wait_until(lambda: rows.extend(log.drain()) or len({row[0] for row in rows}) >= 2)
        share = (used_s() - before_s) / (time.monotonic() - began_s)
    assert 0 < share < 0.05  # of one core; 0.5 % on an idle machine


def log_settings(control: Control) -> dict[str, bool | int | str]:
    return _log(control.read("log settings", control.client.get_log_settings))


def trace_settings(control: Control, model: str = "") -> dict[str, tuple[str, ...]]:
    """Those of a model, or the server's own without one."""
    answer = control.read("trace settings", control.client.get_trace_settings, model_name=model)
    return _trace(answer)


def test_log_settings_are_read_and_set(control: Control) -> None:
    assert log_settings(control)["log_verbose_level"] == 0
    set_log_settings(control, {"log_verbose_level": 2, "log_info": False})
    read = log_settings(control)
    assert (read["log_verbose_level"], read["log_info"]) == (2, False)
    set_log_settings(control, {"log_verbose_level": 0, "log_info": True})
    with pytest.raises(EnvironmentFailedError, match="does not take the log setting nosuch True"):
        set_log_settings(control, {"nosuch": True})


def test_trace_settings_are_read_and_set_for_the_server_and_for_a_model(control: Control) -> None:
    assert trace_settings(control)["trace_level"] == ("OFF",)
    set_trace_settings(control, {"trace_rate": ["7"]}, "identity")
    assert trace_settings(control, "identity")["trace_rate"] == ("7",)
    assert trace_settings(control)["trace_rate"] == ("1000",)
    set_trace_settings(control, {"trace_rate": None}, "identity")
    assert trace_settings(control, "identity")["trace_rate"] == ("1000",)
    with pytest.raises(EnvironmentFailedError, match="trace_level NOSUCH: it has OFF"):
        set_trace_settings(control, {"trace_level": ["NOSUCH"]})


def test_a_scenarios_traces_and_log_land_in_its_logs(
    server: Server, control: Control, logs: Path
) -> None:
    """The last test of this server: it ends it, which is when the traces are written."""
    logged = server.log.stat().st_size if server.log else 0
    record(control, SPEC)
    send(server, 30)
    server.stop()
    with (logs / "tritonserver.log").open() as text:
        text.seek(logged)
        assert "sleep" in text.read()
    (file,) = logs.glob("trace.json*")
    events = json.loads(file.read_text())
    traced = {event["id"] for event in events if event.get("model_name") == "sleep"}
    assert len(traced) == 20
    names = {stamp["name"] for event in events for stamp in event.get("timestamps", [])}
    assert {"REQUEST_START", "QUEUE_START", "COMPUTE_START", "REQUEST_END"} <= names
