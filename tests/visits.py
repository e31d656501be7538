"""``harness run`` on a server that somebody else runs: its stages, its archive, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from harness.archive import open_run
from harness.attachment import attach
from harness.reference import Reference, write_reference
from harness.scenario import parse_scenario
from tests.containers import tree
from tests.footprint import SHARED_MEMORY, assert_in_time, listens, lives, nothing_left
from tests.somebody import ADMIN, MODELS

if TYPE_CHECKING:
    import signal

    from harness.attachment import Attachment
    from harness.records import RunRecord, TrialRecord

NOTE_S = 0.5  # how often one looks what a command has by now
MODEL = "model: identity\n"
SWEEP = "sweep: {instances: [1, 2], concurrency: [4]}\n"
# A window in which a server or generator that is held up for a moment answers all the same.
QUICK = "measure: {window: 600ms, passes: 2, sentinels: false}\n"
LONG = "measure: {window: 1500ms, passes: 4, sentinels: false}\n"


@dataclass
class Session:
    """A run under way, in a home and a temporary folder of its own.

    Attributes:
        process: the command.
        reports: where its run directory is made.
        folders: where it may put what is not for ever.
        seen: it and its children, by process number.
        ports: where they have listened.
        regions: what they have had in shared memory.
    """

    process: subprocess.Popen[str]
    reports: Path
    folders: tuple[Path, ...]
    seen: set[int] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    regions: set[Path] = field(default_factory=set)

    def note(self) -> None:
        """Look what it has now."""
        for pid in {self.process.pid, *tree(self.process.pid)}:
            with contextlib.suppress(psutil.Error, OSError):  # one that has just gone
                sockets = psutil.Process(pid).net_connections("inet")
                listening = (each for each in sockets if each.status == psutil.CONN_LISTEN)
                self.ports |= {each.laddr.port for each in listening}
                mapped = re.findall(
                    rf" ({SHARED_MEMORY}/\S+)$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE
                )
                self.regions |= set(map(Path, mapped))
                self.seen.add(pid)

    def left(self) -> list[str]:
        """What is still there, in words."""
        found = [f"process {pid}" for pid in self.seen if lives(pid)]
        found += [f"port {port}" for port in self.ports if listens(port)]
        found += [str(region) for region in self.regions if region.exists()]
        return found + [str(path) for each in self.folders for path in each.glob("*")]

    def commands(self) -> str:
        """The command lines of its children."""
        lines = []
        for pid in tree(self.process.pid):
            with contextlib.suppress(OSError):  # one that has just gone
                lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"))
        return "\n".join(lines)

    def generators(self) -> set[int]:
        """Its load generators."""
        found = set()
        for pid in tree(self.process.pid):
            with contextlib.suppress(OSError):  # one that has just gone
                if b"harness.load.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(pid)
        return found

    def talks_to(self, port: int) -> bool:
        """Whether it has a connection to a port."""
        try:
            sockets = psutil.Process(self.process.pid).net_connections("inet")
        except psutil.Error:
            return False
        return any(each.raddr and each.raddr.port == port for each in sockets)

    def sealed(self) -> int:
        """How many trials are in the archive."""
        return len(list(self.reports.glob("*/trials/*/trial.json")))

    def status(self) -> str:
        """What the run's record says; empty where there is none yet."""
        runs = list(self.reports.glob("*/run.json"))
        return open_run(runs[0].parent).record().status if runs else ""

    def signal(self, number: signal.Signals) -> None:
        """Send it to the command alone."""
        self.note()
        os.kill(self.process.pid, number)

    def end(self, timeout_s: float = 150) -> tuple[int, str, str]:
        """Wait until it ends and nothing of it is left; the exit code, and what it printed."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.note()
            try:
                out, err = self.process.communicate(timeout=NOTE_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                self.process.kill()
                self.process.communicate()  # and close its pipes
                raise
            break
        assert_in_time(self.left, 10)
        return self.process.returncode, out, err


def start_harness(
    scenario: str, folder: Path, *options: str, environment: dict[str, str] | None = None
) -> Session:
    """Start ``harness run`` on the text of a scenario."""
    file, reports = folder / "remote.yaml", folder / f"reports-{time.monotonic_ns()}"
    file.write_text(scenario)
    home, temporary = folder / "home", folder / "tmp"
    temporary.mkdir(exist_ok=True)
    own = {"TRITON_HARNESS_HOME": str(home), "TMPDIR": str(temporary)}
    command = [sys.executable, "-m", "harness", "run", str(file), "--output", str(reports)]
    models = [] if "--models" in options else ["--models", str(folder / "no-models")]
    process = subprocess.Popen(
        [*command, *models, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "300", "TEST_ADMIN": ADMIN, **own} | (environment or {}),
    )
    return Session(process, reports, (home / "running", temporary))


def asked(scenario: str) -> Attachment:
    """What is found out before anything is measured; to ask leaves nothing."""
    parsed = parse_scenario(scenario, name="remote", where="remote.yaml")
    with nothing_left():
        return attach(parsed, Path("no-models-here"))


def archive(session: Session) -> tuple[RunRecord, list[TrialRecord], str]:
    """A finished run: its record, its trials, and the text of every file in it."""
    folder = next(session.reports.glob("*/run.json")).parent
    run = open_run(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    text = "\n".join(path.read_bytes().decode(errors="replace") for path in files)
    return run.record(), run.trials(), text


def exported(root: Path, name: str) -> Path:
    """A model repository with a test's model, as ``harness export`` would have left it."""
    shutil.copytree(MODELS / "null", root / name)
    config = root / name / "config.pbtxt"
    config.write_text(config.read_text().replace('"null"', f'"{name}"'))
    (root / name / "export.json").write_text('{"schema_version": 1}')
    inputs = np.random.default_rng(7).random((64, 1), dtype=np.float32)
    right = Reference({"X": inputs}, {"Y": np.zeros_like(inputs)})
    write_reference(root / name / "reference.npz", right)
    return root
