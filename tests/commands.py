"""The ``harness run`` command under test, whatever kind of server it runs: its stages, and what is left of it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psutil
from docker.errors import NotFound

from harness.archive import open_run
from tests.containers import Traces, tree
from tests.footprint import Footprint, assert_in_time, wait_until

if TYPE_CHECKING:
    import signal
    from pathlib import Path

    from docker import DockerClient

    from harness.records import TrialRecord

Stage = Literal["set-up", "start", "warm-up", "window", "report"]
STUB = "triton_python_b"
SERVER = "tritonserver"
# No window ends while a test that has been held up is about to strike into it.
MEASURE = "window: 3s, passes: 3, sentinels: false"
NOTICED_S = 5.0


@dataclass
class RunCommand:
    """``harness run`` in a process of its own, with a temporary folder of its own.

    Attributes:
        process: the command.
        reports: where its run directory is made.
        temporary: its temporary folder.
        footprint: what it starts on this machine.
        traces: what it starts in the engine; ``None`` for an embedded server.
    """

    process: subprocess.Popen[str]
    reports: Path
    temporary: Path
    footprint: Footprint
    traces: Traces | None

    def note(self) -> None:
        """Note what is there now, to be looked for at the end."""
        self.footprint.note()
        if self.traces:
            self.traces.note()

    def servers(self) -> list[int]:
        """The server's main process."""
        if self.traces is None:
            found = {pid for pid in tree(self.process.pid) if named(pid) == SERVER}
            return [pid for pid in found if parent(pid) not in found]  # else a stub in the making
        api = self.traces.client.api
        running = [one["Id"] for one in api.containers()]
        new = [one for one in running if one not in self.traces.before["containers"]]
        pids = []
        for one in new:
            with contextlib.suppress(NotFound):  # it has just gone
                pids.append(api.inspect_container(one)["State"]["Pid"])
        # Before it, one lists the image's backends.
        return [pid for pid in pids if pid and named(pid) == SERVER]

    def server(self) -> int:
        """The one server that runs."""
        (pid,) = self.servers()
        self.note()
        return pid

    def stubs(self) -> list[int]:
        """The server's Python stubs, the newest last."""
        born: dict[int, float] = {}
        for pid in tree(self.server()):
            with contextlib.suppress(psutil.NoSuchProcess):  # one that has just gone
                process = psutil.Process(pid)
                if process.name().startswith(STUB):
                    born[pid] = process.create_time()
        return sorted(born, key=lambda pid: born[pid])

    def trials(self) -> list[TrialRecord]:
        """What is sealed so far."""
        runs = list(self.reports.glob("*/run.json"))
        return open_run(runs[0].parent).trials() if runs else []

    def status(self) -> str:
        """What the run's record says; empty where there is none yet."""
        runs = list(self.reports.glob("*/run.json"))
        return open_run(runs[0].parent).record().status if runs else ""

    def inferences(self, model: str) -> float:
        """How many the server has executed, as its metrics say."""
        for pid in self.servers():
            try:
                words = psutil.Process(pid).cmdline()
                ports = [word.split("=")[1] for word in words if word.startswith("--metrics-port")]
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{ports[0]}/metrics", timeout=10
                ) as answer:
                    lines = answer.read().decode().splitlines()
            except (OSError, IndexError, psutil.Error):
                continue
            mine = (line for line in lines if line.startswith("nv_inference_count{"))
            return sum(float(line.split()[-1]) for line in mine if f'model="{model}"' in line)
        return 0.0

    def reach(self, stage: Stage) -> None:
        """Wait until it is at a stage; warm-up and window must be long enough to be met."""
        conditions = {
            "set-up": lambda: self.status() == "running",
            "start": self.servers,
            "warm-up": lambda: self.inferences("cnn") > 0,
            "window": lambda: self.inferences("cnn") > 0,
            "report": lambda: self.status() == "complete",
        }
        wait_until(lambda: conditions[stage]() or self.process.poll() is not None, 120, stage)
        assert self.process.poll() is None, self.process.communicate()
        self.note()

    def end(self, number: signal.Signals | None = None, timeout_s: float = 120) -> tuple[str, str]:
        """Send a signal where there is one, and wait for the end; return what was said."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.communicate(timeout=timeout_s)

    def watch(self) -> None:
        """Note what there is until it ends, or has a server."""
        wait_until(lambda: self.servers() or self.process.poll() is not None, 120, "a server")
        self.note()

    def seen(self) -> bool:
        """Whether a server of it was noted, with its ports."""
        pids = self.traces.pids if self.traces else self.footprint.servers
        return bool(pids and (self.traces or self.footprint).ports)

    def assert_gone(self) -> None:
        """Fail where anything of a server that was seen is left.

        That is a process, container, region, port, control group or temporary file.
        """
        assert self.seen(), "no server was ever seen with its ports: nothing is proved"
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        """As :meth:`assert_gone`, where no server may have come to be."""
        if self.traces:
            self.traces.assert_gone()
        # The load generator and the guards run here, not in the container.
        assert_in_time(lambda: self.footprint.left(files=not self.traces), 5)
        # Guards remove what is theirs a moment after the command has ended.
        wait_until(lambda: not list(self.temporary.iterdir()), 5, "an empty temporary folder")


def named(pid: int) -> str:
    """The name of a process; empty where it has gone."""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


def parent(pid: int) -> int:
    """The parent of a process; 0 where it has gone."""
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return 0


def run_command(
    scenario: Path, models: Path, temporary: Path, client: DockerClient | None
) -> RunCommand:
    """Start it; ``client`` is the engine's where the scenario wants a container."""
    reports = scenario.parent / "reports"
    traces = Traces(client, temporary) if client else None
    options = ["--models", str(models), "--output", str(reports)]
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(scenario), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return RunCommand(process, reports, temporary, Footprint(process.pid), traces)


def scenario_text(server: str, measure: str) -> str:
    """A scenario of one point."""
    return f"server: {{{server}}}\nsweep: {{concurrency: 4}}\nmeasure: {{{measure}}}\n"


def assert_noticed(broken: TrialRecord, struck_ns: int) -> None:
    """Hold the moment at which the run noticed a fault against that of the fault: one clock for both."""
    noticed_s = ((broken.failure_ns or 0) - struck_ns) / 1e9
    # What the kernel ends for its memory is known to be ended a moment before it has gone.
    assert abs(noticed_s) < NOTICED_S
