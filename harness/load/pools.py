"""The prepared requests of a run, by model and workload, made when they are first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.load.metadata import examples
from harness.load.senders import prepare

if TYPE_CHECKING:
    from harness.load.examples import Examples
    from harness.load.senders import Pool, Sender
    from harness.load.target import Target
    from harness.point import Workload

__all__ = ["Pools"]

# Above this the pools that were not used for longest are given up, and made again when they are needed.
MOST_BYTES = 1 << 30


class Pools:
    """Prepared requests.

    Args:
        sender: who sends them.
        seed: seeds what they hold.
    """

    def __init__(self, sender: Sender, seed: int) -> None:
        self._sender = sender
        self._seed = seed
        self._pools: dict[tuple[Target, str], Pool] = {}
        self._examples: tuple[Target, Examples] | None = None

    def get(self, target: Target, workload: Workload) -> Pool:
        """The requests of a workload on a target.

        Raises:
            UsageError: the server or the model does not take it, or the reference file is damaged.
            EnvironmentFailedError: the server does not tell the model's metadata.
        """
        if workload.protocol == "grpc" and target.grpc is None:
            raise UsageError(
                "the server offers no gRPC", remedy="Give its gRPC address, or send over HTTP"
            )
        key = (target, workload.key)
        pool = self._pools.pop(key, None)
        if pool is None:
            if self._examples is None or self._examples[0] != target:
                self._examples = (target, examples(target, self._seed))
            pool = prepare(target, self._examples[1], workload, self._sender, self._seed)
        self._pools[key] = pool
        while sum(p.size for p in self._pools.values()) > MOST_BYTES and len(self._pools) > 1:
            del self._pools[next(iter(self._pools))]
        return pool
