"""Where the load comes from."""

from __future__ import annotations

from harness.point import Frozen
from harness.units import Cpus

__all__ = ["GeneratorSpec"]


class GeneratorSpec(Frozen):
    """The load generator.

    Attributes:
        cpus: the cores that it may run on, such as [1]; all where empty. With ``server: {cpus: [0]}`` neither
            slows the other.
    """

    cpus: Cpus = ()
