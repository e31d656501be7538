"""The control plane of a real Triton: configurations, refusals, deadlines, statistics."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton

from harness.errors import EnvironmentFailedError
from harness.scenario import ServerSpec
from harness.servers import serving
from harness.servers.control import Control, Snapshot, difference
from harness.servers.readings.telemetry import Telemetry
from harness.servers.remote.reading import HttpReading
from harness.servers.staging import staged
from harness.snapshot import require_growth
from tests.footprint import freeze, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.servers.server import Server

MODELS = Path(__file__).parents[1] / "models"
BROKEN = {
    "unfinished": ("config.pbtxt", 'name: "unfinished" backend: {'),
    "raising": ("1/model.py", "raise ImportError('no module named nosuchlibrary')"),
    "bad_onnx": (
        "1/model.py",
        """
import onnxruntime

class TritonPythonModel:
    def initialize(self, args):
        onnxruntime.InferenceSession(args["model_repository"] + "/1/model.onnx")
""",
    ),
    "stuck": ("1/model.py", "import time\ntime.sleep(600)"),
    "quitting": ("1/model.py", "import os\nos._exit(1)"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good models, and some that do not load."""
    root = tmp_path_factory.mktemp("models")
    for name, (file, text) in BROKEN.items():
        shutil.copytree(MODELS / "identity", root / name)
        config = root / name / "config.pbtxt"
        config.write_text(config.read_text().replace('"identity"', f'"{name}"'))
        (root / name / file).write_text(text)
    (root / "bad_onnx" / "1" / "model.onnx").write_bytes(b"this is no model")
    return {name: root / name for name in BROKEN} | {
        name: MODELS / name for name in ("identity", "sleep")
    }


@pytest.fixture(scope="module")
def server(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    logs = tmp_path_factory.mktemp("logs")
    with (
        staged(folders, "control") as repository,
        serving(ServerSpec(), repository, logs=logs, run_id="control") as server,
    ):
        yield server


@pytest.fixture(scope="module")
def control(server: Server) -> Iterator[Control]:
    with Control(server.endpoints, log=server.log) as control:
        yield control


CONFIG: dict[str, Any] = {
    "name": "identity",
    "backend": "python",
    "max_batch_size": 8,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [1]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [1]}],
    "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
    "dynamic_batching": {"max_queue_delay_microseconds": 1500, "preferred_batch_size": [4]},
    "parameters": {"anything": {"string_value": "5"}},
}


def send(server: Server, model: str, requests: int, batch: int = 1) -> None:
    """Send requests one after the other."""
    with triton.InferenceServerClient(server.endpoints.grpc) as client:
        tensor = triton.InferInput("X", [batch, 1], "FP32")
        tensor.set_data_from_numpy(np.ones((batch, 1), np.float32))
        for _ in range(requests):
            assert client.infer(model, [tensor], client_timeout=20).as_numpy("Y").shape[0] == batch


def test_the_effective_configuration_is_the_one_asked_for(control: Control) -> None:
    # Only here: where stubs start together on a busy machine, one now and then dies (see OWN_BATCHING).
    two = {"instance_group": [{"count": 2, "kind": "KIND_CPU"}]}
    control.load("identity", CONFIG | two, deadline_s=60)
    effective = control.effective_configuration("identity")
    assert effective["input"][0]["dims"] == [1]
    assert effective["max_batch_size"] == 8
    assert effective["dynamic_batching"] == CONFIG["dynamic_batching"]
    assert effective["parameters"] == {"anything": {"string_value": "5"}}
    assert effective["instance_group"] == [{"name": "identity_0", "count": 2, "kind": "KIND_CPU"}]
    plain = {name: value for name, value in CONFIG.items() if name != "dynamic_batching"}
    control.load("identity", plain, deadline_s=60)
    assert "dynamic_batching" not in control.effective_configuration("identity")
    # What was read back can be given again.
    control.load("identity", effective, deadline_s=60)
    assert control.effective_configuration("identity") == effective


def test_the_server_says_what_it_is(control: Control) -> None:
    said = control.server_metadata()
    assert said["version"] == "2.51.0"
    assert "statistics" in said["extensions"]


def test_a_model_is_unloaded(control: Control) -> None:
    control.load("sleep", deadline_s=30)
    assert control.is_model_ready("sleep")
    control.unload("sleep")
    wait_until(lambda: not control.is_model_ready("sleep"))


@pytest.mark.parametrize(
    ("model", "config", "said"),
    [
        ("nosuch", None, "failed to poll.*(model not found|nosuch)"),
        ("unfinished", None, "unfinished.*Error parsing text-format"),
        ("raising", None, "no module named nosuchlibrary"),
        ("bad_onnx", None, r"model\.onnx failed"),
        ("identity", CONFIG | {"backend": "onnxruntime"}, "backend.*onnxruntime"),
        ("identity", CONFIG | {"nosuchkey": 1}, "nosuchkey: Cannot find field"),
        ("identity", CONFIG | {"max_batch_size": "many"}, "max_batch_size.*many"),
        pytest.param(
            "identity",
            CONFIG | {"instance_group": [{"count": 1, "kind": "KIND_GPU"}]},
            "has kind KIND_GPU but no GPUs are available",
            marks=pytest.mark.no_gpu,
        ),
    ],
)
def test_what_does_not_load_is_one_sentence(
    control: Control, model: str, config: dict[str, Any] | None, said: str
) -> None:
    with pytest.raises(EnvironmentFailedError, match=said) as caught:
        control.load(model, config, deadline_s=30)
    assert caught.value.exit_code == 3
    assert f"loading {model}: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(("..", ";."))


@pytest.mark.parametrize(
    ("model", "config"),
    [("nosuch", None), ("unfinished", None), ("identity", CONFIG | {"nosuchkey": 1})],
)
def test_where_the_log_is_out_of_reach_the_way_to_it_is_told(
    server: Server, model: str, config: dict[str, Any] | None
) -> None:
    """Of a configuration that cannot be read Triton gives no reason, neither here nor in its index."""
    with (
        Control(server.endpoints) as remote,
        pytest.raises(EnvironmentFailedError, match="failed to poll") as caught,
    ):
        remote.load(model, config, deadline_s=30)
    assert f"See the server's own log for why polling '{model}' failed" in str(caught.value)
    assert server.log is not None
    assert re.search(rf"(?i)poll.*'{model}'", server.log.read_text())


def test_a_refused_configuration_leaves_the_former_one(control: Control, server: Server) -> None:
    control.load("identity", CONFIG, deadline_s=30)
    with pytest.raises(EnvironmentFailedError):
        control.load("identity", CONFIG | {"backend": "nosuch"}, deadline_s=30)
    assert control.effective_configuration("identity")["backend"] == "python"
    send(server, "identity", 1)


@pytest.mark.parametrize("model", ["stuck", "quitting"])
def test_a_stub_that_cannot_start_meets_the_deadline(
    folders: dict[str, Path], tmp_path: Path, model: str
) -> None:
    with ExitStack() as stack:
        repository = stack.enter_context(staged(folders, "stuck"))
        server = stack.enter_context(
            serving(ServerSpec(), repository, logs=tmp_path, run_id="stuck")
        )
        control = stack.enter_context(Control(server.endpoints, log=server.log))
        start = time.monotonic()
        with pytest.raises(EnvironmentFailedError, match=f"loading {model}"):
            control.load(model, deadline_s=3)
        assert time.monotonic() - start < 10
        # Its clean-up must not wait for the stub either: the fixture of every test's time limit holds it.


def test_no_server_is_known_at_once_and_waited_for_where_it_reads(tmp_path: Path) -> None:
    with (
        serving(ServerSpec(), tmp_path, logs=tmp_path, run_id="gone") as server,
        Control(server.endpoints, deadline_s=1) as control,
    ):
        os.kill(server.processes()[0][1], signal.SIGKILL)
        wait_until(server.failure)
        for attempt in (
            lambda: control.load("identity", deadline_s=20),
            control.server_metadata,
            lambda: control.snapshot("identity"),
        ):
            start = time.monotonic()
            with pytest.raises(EnvironmentFailedError):
                attempt()
            assert time.monotonic() - start < 5


def test_a_frozen_server_meets_the_deadline(tmp_path: Path) -> None:
    with (
        serving(ServerSpec(), tmp_path, logs=tmp_path, run_id="frozen") as server,
        Control(server.endpoints, deadline_s=0.5) as control,
    ):
        wait_until(lambda: control.call("readiness", control.client.is_server_ready, deadline_s=60))
        pid = server.processes()[0][1]
        freeze(pid)
        # What is left of half a second when the question is sent.
        with pytest.raises(EnvironmentFailedError, match=r"no answer within 0\.(5|4\d*) s"):
            control.server_metadata()
        os.kill(pid, signal.SIGCONT)
        control.deadline_s = 60
        assert control.server_metadata()["name"] == "triton"


def settled(control: Control, model: str, requests: int, first: Snapshot) -> Snapshot:
    """The snapshot in which the server has counted its last request, and then its execution, after its answer."""
    found = [first]

    def counted() -> bool:
        found.append(control.snapshot(model))
        counts, executed = require_growth(first, found[-1])
        inferences = sum(size * executions for size, executions in executed.items())
        return counts["success_count"] == requests and inferences == counts["inference_count"]

    wait_until(counted, 60, "every request is counted")
    return found[-1]


def test_statistics_count_exactly_what_was_sent(control: Control, server: Server) -> None:
    control.load("identity", CONFIG, deadline_s=30)
    before_ns = time.monotonic_ns()
    first = control.snapshot("identity")
    send(server, "identity", 30)
    send(server, "identity", 10, batch=3)
    last = settled(control, "identity", 40, first)
    window = difference(first, last)
    assert window.success_count == 40
    assert window.inference_count == 60
    assert window.execution_count == 40
    assert window.executed_batches == {1: 30, 3: 10}
    assert window.queue_count == 40
    assert window.fail_count == 0
    assert before_ns <= window.start_ns < window.end_ns <= time.monotonic_ns()
    assert 0 < window.compute_infer_ns < window.success_ns < window.end_ns - window.start_ns
    # Dynamic batching waits 1.5 ms for a fourth inference that never comes.
    assert window.queue_ns / window.queue_count > 1.4e6
    over_http = HttpReading(server.endpoints).snapshot("identity")
    assert over_http.counts == last.counts
    assert over_http.executed_batches == last.executed_batches


def test_statistics_show_the_batches_that_were_executed(control: Control, server: Server) -> None:
    config = control_config("sleep", {"max_queue_delay_microseconds": 50_000})
    control.load("sleep", config, deadline_s=30)
    first = control.snapshot("sleep")
    threads = [threading.Thread(target=send, args=(server, "sleep", 5)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    window = difference(first, settled(control, "sleep", 20, first))
    assert sum(size * count for size, count in window.executed_batches.items()) == 20
    assert window.execution_count == sum(window.executed_batches.values()) < 20
    assert max(window.executed_batches) > 1
    assert window.compute_infer_ns >= 20e6 * window.execution_count


def control_config(name: str, batching: dict[str, Any]) -> dict[str, Any]:
    return CONFIG | {
        "name": name,
        "dynamic_batching": batching,
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
        "parameters": {"sleep_us": {"string_value": "20000"}},
    }


def test_a_model_that_is_loaded_anew_is_not_taken_for_a_window(
    control: Control, server: Server
) -> None:
    control.load("identity", CONFIG, deadline_s=30)
    send(server, "identity", 5)
    wait_until(lambda: control.snapshot("identity").counts["success_count"] >= 5)
    first = control.snapshot("identity")
    control.load("identity", CONFIG | {"max_batch_size": 9}, deadline_s=30)
    with pytest.raises(EnvironmentFailedError, match="loaded anew"):
        difference(first, control.snapshot("identity"))


def test_statistics_of_a_model_that_is_not_there(control: Control) -> None:
    with pytest.raises(EnvironmentFailedError, match=r"statistics of nosuch: .*not available"):
        control.snapshot("nosuch")


def test_telemetry_sees_what_server_and_stubs_use(control: Control, server: Server) -> None:
    control.load("identity", CONFIG, deadline_s=30)
    models = [model for model in ("identity", "sleep") if control.is_model_ready(model)]
    # Those of former configurations linger for seconds, and have no memory any more when they go.
    wait_until(lambda: len(server.processes()) == 1 + len(models), 60, "a stub for each model")
    with Telemetry(0.05) as telemetry:
        telemetry.start(server.processes)
        send(server, "identity", 300)
        telemetry.refresh()
        rows = telemetry.drain()
    for role, pid in server.processes():
        own = [row for row in rows if row[1:3] == (role, pid)]
        assert len(own) > 2, role
        assert [row[0] for row in own] == sorted(row[0] for row in own)
        assert all(later[3] >= earlier[3] for earlier, later in pairwise(own))
        assert all(row[4] > 10e6 for row in own)
    used = {role: max(r[3] for r in rows if r[1] == role) for role in ("server", "stub")}
    assert all(used.values())
    host = [row for row in rows if row[1] == "host"]
    assert host[-1][3] > host[0][3]
