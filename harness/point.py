"""The words of a sweep: server configuration, workload, load level, and the point they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

__all__ = [
    "MOST_IN_FLIGHT",
    "ClosedLoad",
    "DynamicBatching",
    "Frozen",
    "Load",
    "OpenLoad",
    "Point",
    "Precision",
    "ServerConfiguration",
    "ShapedLoad",
    "Stretch",
    "Whole",
    "Workload",
    "number",
    "variant_name",
]

Precision = Literal["float32", "float16", "int8"]

# The cap on requests in flight of an open loop, unless another one is given.
MOST_IN_FLIGHT = 256


def variant_name(model: str, precision: Precision) -> str:
    """What a model's variant is called where nobody names it: ``cnn``, ``cnn_float16``, ``cnn_int8``."""
    return model if precision == "float32" else f"{model}_{precision}"


def number(value: object) -> object:
    """Refuse ``true``, which pydantic would take for 1."""
    if isinstance(value, bool):
        raise ValueError("expected a number")  # noqa: TRY004 - pydantic passes a TypeError on
    return value


Whole = Annotated[int, BeforeValidator(number)]


class Frozen(BaseModel):
    """A record that is validated once, refuses unknown keys and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DynamicBatching(Frozen):
    """Triton's dynamic batcher, as ``dynamic_batching`` in ``config.pbtxt``.

    Attributes:
        max_queue_delay_us: how long a request may wait for others, in microseconds.
        preferred_batch_sizes: sizes the batcher aims for; empty (Triton's advice) means the maximum.
        preserve_ordering: answers leave in the order in which the requests came.
    """

    max_queue_delay_us: Annotated[Whole, Field(ge=0)] = 0
    preferred_batch_sizes: tuple[Annotated[Whole, Field(gt=0)], ...] = ()
    preserve_ordering: bool = False

    @property
    def label(self) -> str:
        """A short name, such as ``delay 1000 µs``."""
        parts = [f"delay {self.max_queue_delay_us} µs"]
        if self.preferred_batch_sizes:
            parts.append("preferred " + "/".join(map(str, self.preferred_batch_sizes)))
        if self.preserve_ordering:
            parts.append("ordered")
        return ", ".join(parts)


class ServerConfiguration(Frozen):
    """What Triton is set to for one model.

    Attributes:
        as_found: it is whatever the server has, and nobody knows what that is: a server that is not ours,
            and that does not say.
    """

    model: str
    instances: PositiveInt = 1
    kind: Literal["cpu", "gpu"] = "cpu"
    gpus: tuple[NonNegativeInt, ...] = ()
    max_batch_size: NonNegativeInt = 64
    dynamic_batching: DynamicBatching | None = None
    as_found: bool = False

    @property
    def key(self) -> str:
        """A short unique name made of letters, digits and hyphens, such as ``cnn-i2-d1000``."""
        if self.as_found:
            return f"{self.model}-asfound"
        parts = [self.model, f"i{self.instances}"]
        if self.kind == "gpu":
            parts.append("gpu" + "".join(f"_{gpu}" for gpu in self.gpus))
        if self.dynamic_batching is None:
            parts.append("nodyn")
        else:
            parts.append(f"d{self.dynamic_batching.max_queue_delay_us}")
            if self.dynamic_batching.preferred_batch_sizes:
                sizes = self.dynamic_batching.preferred_batch_sizes
                parts.append("p" + "_".join(map(str, sizes)))
            if self.dynamic_batching.preserve_ordering:
                parts.append("ordered")
        if self.max_batch_size != ServerConfiguration.model_fields["max_batch_size"].default:
            parts.append(f"m{self.max_batch_size}")
        return "-".join(parts)

    @property
    def label(self) -> str:
        """A name for people, such as ``2 instances, delay 1000 µs``."""
        if self.as_found:
            return "as the server has it"
        plural = "instance" if self.instances == 1 else "instances"
        batching = self.dynamic_batching.label if self.dynamic_batching else "no dynamic batching"
        where = " on GPU" if self.kind == "gpu" else ""
        if self.gpus:
            where += f" {' and '.join(map(str, self.gpus))}"
        return f"{self.instances} {plural}{where}, {batching}"


class Workload(Frozen):
    """What clients send: the protocol and the client batch size (inferences in one request)."""

    protocol: Literal["http", "grpc"] = "http"
    batch_size: PositiveInt = 1

    @property
    def key(self) -> str:
        """A short unique name, such as ``http-b8``."""
        return f"{self.protocol}-b{self.batch_size}"

    @property
    def label(self) -> str:
        """A name for people, such as ``HTTP, client batch 8``."""
        protocol = {"http": "HTTP", "grpc": "gRPC"}[self.protocol]
        return f"{protocol}, client batch {self.batch_size}"


class ClosedLoad(Frozen):
    """A closed loop: ``concurrency`` users, each sending as soon as it has its answer.

    Attributes:
        concurrency: the users.
        duration_s: length of the window where it is not the scenario's: of a soak.
    """

    kind: Literal["closed"] = "closed"
    concurrency: PositiveInt
    duration_s: PositiveFloat | None = None

    @property
    def key(self) -> str:
        """A short unique name, such as ``c16``."""
        return f"c{self.concurrency}{_soak(self.duration_s)}"


class _Scheduled(Frozen):
    """What loads have in common whose requests are due at scheduled times, whatever the others do.

    Attributes:
        rate: mean arrivals, in requests per second.
        arrivals: ``poisson`` (exponential gaps), ``constant`` (equal gaps) or ``replayed``.
        max_in_flight: cap on requests in flight; what is due beyond it waits, and that is counted.
    """

    rate: PositiveFloat
    max_in_flight: PositiveInt = MOST_IN_FLIGHT

    @property
    def _cap(self) -> str:
        return "" if self.max_in_flight == MOST_IN_FLIGHT else f"-cap{self.max_in_flight}"


class OpenLoad(_Scheduled):
    """An open loop at one mean rate; ``duration_s`` as in :class:`ClosedLoad`."""

    kind: Literal["open"] = "open"
    arrivals: Literal["poisson", "constant"] = "poisson"
    duration_s: PositiveFloat | None = None

    @property
    def key(self) -> str:
        """A short unique name, such as ``poisson200``."""
        return f"{self.arrivals}{self.rate:g}{_soak(self.duration_s)}{self._cap}"


class Stretch(Frozen):
    """A stretch of time in which the rate changes linearly, in requests per second."""

    duration_s: PositiveFloat
    rate_start: NonNegativeFloat
    rate_end: NonNegativeFloat


class ShapedLoad(_Scheduled):
    """An open loop whose rate changes over time; its window covers the whole shape, which has an end.

    Attributes:
        name: its short name, such as ``ramp50-400-10s``.
        shape: which kind of shape it is.
        duration_s: from the beginning of the shape to its end.
        stretches: the rate over time, one after the other; none of a replay.
        repeat: all stretches are repeated until the end.
        requests: how many are due, of a replay; else that follows from the stretches.
        speed: how many times as fast as recorded a replay goes.
        sha256: of the replayed file.
        path: of the replayed file while it is measured; no part of the archive.
    """

    kind: Literal["shaped"] = "shaped"
    shape: Literal["steps", "ramp", "spike", "burst", "replay"]
    name: str
    arrivals: Literal["poisson", "constant", "replayed"] = "poisson"
    duration_s: PositiveFloat
    stretches: tuple[Stretch, ...] = ()
    repeat: bool = False
    requests: PositiveInt | None = None
    speed: PositiveFloat = 1.0
    sha256: str = ""
    path: Path | None = Field(default=None, exclude=True)

    @property
    def key(self) -> str:
        """A short unique name, such as ``ramp50-400-10s-constant``."""
        gaps = "-constant" if self.arrivals == "constant" else ""
        return f"{self.name}{gaps}{self._cap}"

    @property
    def first_rate(self) -> float:
        """The rate at which it begins, at which a server can be warmed up; of a replay, its mean."""
        return self.stretches[0].rate_start if self.stretches else self.rate

    def rate_at(self, moment_s: float) -> float:
        """The rate that is due at a moment after the shape's beginning; of a replay, its mean."""
        if not self.stretches:
            return self.rate
        left = moment_s
        if self.repeat:
            left %= sum(stretch.duration_s for stretch in self.stretches)
        for stretch in self.stretches:
            if left < stretch.duration_s:
                change = stretch.rate_end - stretch.rate_start
                return stretch.rate_start + change * left / stretch.duration_s
            left -= stretch.duration_s
        return self.stretches[-1].rate_end


def _soak(duration_s: float | None) -> str:
    return "" if duration_s is None else f"-soak{duration_s:g}s"


Load = Annotated[ClosedLoad | OpenLoad | ShapedLoad, Field(discriminator="kind")]


class Point(Frozen):
    """One load level on one server configuration: what is measured, in one or more trials."""

    configuration: ServerConfiguration
    workload: Workload
    load: Load

    @property
    def key(self) -> str:
        """The point's name in every table, such as ``cnn-i2-d1000-http-b8-c16``."""
        return f"{self.configuration.key}-{self.workload.key}-{self.load.key}"
