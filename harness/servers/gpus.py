"""Whether a server has the GPUs that configurations ask for: asked of the server, before it is measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import EnvironmentFailedError
from harness.servers.readings.metrics import TritonMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.point import ServerConfiguration
    from harness.servers.server import Server

__all__ = ["require_gpus"]

DEVICE = Path("/dev/nvidiactl")  # of NVIDIA's driver
UNKNOWN = -1
REMEDIES = {
    "embedded": "Use a machine with NVIDIA's driver, and prepare it with: harness server install --gpu",
    "container": "Give it some with server.gpus: all",
    "remote": "Start it with GPUs, and with their metrics (--allow-gpu-metrics=true)",
}


def require_gpus(server: Server, configurations: Iterable[ServerConfiguration]) -> None:
    """See to it that ``server`` has the GPUs that ``configurations`` are to run on.

    Args:
        server: it runs.
        configurations: everything that is to be measured.

    Raises:
        EnvironmentFailedError: it has none, or not the one that is listed.
    """
    wanted = [each for each in configurations if each.kind == "gpu"]
    if not wanted:
        return
    count = _count(server)
    if count == 0:
        kind = server.describe()["kind"]
        raise EnvironmentFailedError(
            f"the server has no GPU, and {wanted[0].label} of {wanted[0].model} needs one",
            where="sweep.kind",
            remedy=f"{REMEDIES[kind]}, or leave gpu out of the sweep",
        )
    highest = max((gpu for each in wanted for gpu in each.gpus), default=0)
    if UNKNOWN < count <= highest:
        raise EnvironmentFailedError(
            f"the server has {count} GPU{'' if count == 1 else 's'}, counted from 0, and no GPU {highest}",
            where="sweep.gpus",
            remedy=f"List GPUs up to {count - 1}",
        )


def _count(server: Server) -> int:
    """How many GPUs the server has; :data:`UNKNOWN` where it has some and does not say how many.

    Triton's metrics name each GPU that it sees. A server without such metrics may have been told not to
    look for GPUs, or lack the library, so what it was started on is asked as well.
    """
    address = server.endpoints.metrics
    named: set[str] = set()
    if address is not None:
        try:
            read = TritonMetrics(address).read()
        except (OSError, ValueError):
            if server.describe()["kind"] == "remote":
                return UNKNOWN  # it will say so itself when it is to load the model
            read = []
        named = {labels for name, labels, _ in read if name.startswith("nv_gpu_")}
    elif server.describe()["kind"] == "remote":
        return UNKNOWN
    if named:
        return len(named)
    described = server.describe()
    given = {
        "embedded": DEVICE.exists(),
        "container": bool(described.get("gpus")),
        "remote": False,
    }
    return UNKNOWN if given[described["kind"]] else 0
