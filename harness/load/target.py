"""Where the load goes: a model on a running server, and what its right answers are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.access import OPEN, Access

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """A model on a running server.

    Attributes:
        http: ``host:port`` of the HTTP endpoint, which also tells the model's metadata.
        grpc: ``host:port`` of the gRPC endpoint; ``None`` where it is not offered.
        model: name of the model.
        batched: the first axis of its tensors is the batch (``max_batch_size`` above 0).
        reference: a :mod:`harness.reference` file; without one the inputs are random, and answers are
            only checked for shape, size and finite values.
        binary: whether the HTTP endpoint takes and gives tensors as bytes (KServe v2, binary tensor data
            extension), else as JSON.
        access: what the server asks of those who come.
        tolerance: how far a value may lie from the reference, absolutely and relatively.
    """

    http: str
    grpc: str | None
    model: str
    batched: bool = True
    reference: Path | None = None
    tolerance: float = 1e-4
    binary: bool = True
    access: Access = OPEN

    def to_json(self) -> dict[str, Any]:
        """The target as a JSON object."""
        data = asdict(self)
        data["reference"] = str(self.reference) if self.reference else None
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Target:
        """The inverse of :meth:`to_json`."""
        reference = data["reference"]
        access = Access.from_json(data["access"])
        return cls(
            **{**data, "reference": Path(reference) if reference else None, "access": access}
        )
