"""What is known of the ``tritonserver`` program, whoever runs it: options, processes, complaints, ends."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import psutil

from harness.errors import UsageError
from harness.processes import log_tail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.servers.server import ProcessRole

__all__ = [
    "EXIT_TIMEOUT_S",
    "complaint",
    "ending",
    "last_lines",
    "lives",
    "server_and_stubs",
    "server_options",
    "starved",
    "trace_options",
]

SERVER = "tritonserver"
STUB = "triton_python_backend_stub"[:15]  # the kernel keeps 15 letters of a process's name
EXIT_TIMEOUT_S = 4  # for requests in flight and stubs when it ends; a stub takes 2 s
METRICS_INTERVAL_MS = 200
HTTP_THREADS = 8  # Triton's default
LARGEST_START_BYTES = 1 << 18
# With these a server listens on other addresses than the loopback one; the last two have none that can be set.
FOR_ALL_TO_REACH = (
    *(f"{endpoint}-address" for endpoint in ("http", "grpc", "metrics")),
    *("allow-sagemaker", "allow-vertex-ai"),
)
OWNED = (
    *(
        "model-repository",
        "model-store",
        "model-control-mode",
        "load-model",
        "repository-poll-secs",
    ),
    *(f"{endpoint}-port" for endpoint in ("http", "grpc", "metrics")),
    *FOR_ALL_TO_REACH,
    *("backend-directory", "cache-directory", "log-file"),
)
# What it says of its command line, above hundreds of lines of help, and of its ports.
COMPLAINT = re.compile(r"^\S*tritonserver: (.*)$|\] \"(failed to start .*?) *\"$", re.MULTILINE)
STARVED = re.compile(r"bad_alloc|MemoryError|annot allocate memory")
FRAME = re.compile(r"\s*[0-9]{1,3}# ")


def server_options(extra_args: Sequence[str], *, address: str, gpu: bool) -> list[str]:
    """The options that say how a server works; paths and ports are not among them.

    Args:
        extra_args: the user's own, which come last and so win.
        address: what its endpoints listen on.
        gpu: whether it is to look for GPUs.

    Raises:
        UsageError: an option that is the harness's own.
    """
    for argument in extra_args:
        _refuse_owned(argument.split("=")[0])
    options = [
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--exit-on-error=false",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        f"--http-address={address}",
        f"--grpc-address={address}",
        f"--metrics-address={address}",
        f"--http-thread-count={HTTP_THREADS}",
        f"--metrics-interval-ms={METRICS_INTERVAL_MS}",
    ]
    if not gpu:
        # Else it fills the log with the libraries that it does not find.
        options += ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
    return [*options, *extra_args]


def _refuse_owned(option: str) -> None:
    # Triton reads its options with getopt, to which the beginning of a name is the name: --http-a.
    name = option.removeprefix("--")
    meant = next((own for own in OWNED if name and own.startswith(name)), None)
    if name == option or meant is None:
        return
    longer = "" if meant == name else f" (--{meant})"
    remedy = "Leave it out"
    if meant in FOR_ALL_TO_REACH:
        remedy += ": what the harness serves listens on loopback only"
    raise UsageError(
        f"the option {option}{longer} is the harness's own",
        where="server.extra_args",
        remedy=remedy,
    )


def trace_options(logs: Path) -> list[str]:
    """The options with which a server can be told later to trace; a run's second server has its own file."""
    number = len(list(logs.glob("trace*.json*"))) + 1
    path = logs.absolute() / ("trace.json" if number == 1 else f"trace-{number}.json")
    return [f"--trace-config=triton,file={path}"]


def server_and_stubs(pid: int) -> list[tuple[ProcessRole, int]]:
    """The server in the tree of processes below ``pid``, itself included, and its live Python stubs."""
    found: list[tuple[ProcessRole, int]] = []
    try:
        top = psutil.Process(pid)
        tree = [top, *top.children(recursive=True)]
    except psutil.Error:
        return found
    for process in tree:
        try:
            name = process.name()
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
        except psutil.Error:
            continue
        if name == SERVER:
            found.append(("server", process.pid))
        elif name.startswith(STUB):
            found.append(("stub", process.pid))
    return found


def lives(process: psutil.Process) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def complaint(log: Path, start: int) -> str:
    """What the server has said of its options or ports since its log had ``start`` bytes; else empty."""
    found = COMPLAINT.search(_logged(log, start))
    return (found[1] or found[2]) if found else ""


def starved(log: Path, start: int) -> bool:
    """Whether it has said, since its log had ``start`` bytes, that it gets no memory."""
    return STARVED.search(_logged(log, start)) is not None


def _logged(log: Path, start: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(start)
            return file.read(LARGEST_START_BYTES).decode(errors="replace")
    except OSError:
        return ""


def last_lines(log: Path, lines: int = 20) -> str:
    """The last lines of the server's log, the addresses of a stack trace left out."""
    kept = [line for line in log_tail(log, 20 * lines).splitlines() if not FRAME.match(line)]
    return "\n".join(kept[-lines:])


def ending(status: int) -> str:
    """Say in words how a process ended, such as ``was ended by SIGKILL``; -N is signal N."""
    if status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    return f"ended by itself with status {status}"
