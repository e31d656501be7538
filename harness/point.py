"""The words of a sweep: server configuration, workload, load level, and the point they make."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

__all__ = [
    "ClosedLoad",
    "DynamicBatching",
    "Frozen",
    "Load",
    "OpenLoad",
    "Point",
    "Precision",
    "ServerConfiguration",
    "Workload",
    "variant_name",
]

Precision = Literal["float32", "float16", "int8"]


def variant_name(model: str, precision: Precision) -> str:
    """What a model's variant is called where nobody names it: ``cnn``, ``cnn_float16``, ``cnn_int8``."""
    return model if precision == "float32" else f"{model}_{precision}"


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

    max_queue_delay_us: NonNegativeInt = 0
    preferred_batch_sizes: tuple[PositiveInt, ...] = ()
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
    """A closed loop: ``concurrency`` users, each sending as soon as it has its answer."""

    kind: Literal["closed"] = "closed"
    concurrency: PositiveInt

    @property
    def key(self) -> str:
        """A short unique name, such as ``c16``."""
        return f"c{self.concurrency}"


class OpenLoad(Frozen):
    """An open loop: requests are due at scheduled times, whatever the others do.

    Attributes:
        rate: mean arrivals, in requests per second.
        arrivals: ``poisson`` (exponential gaps) or ``constant`` (equal gaps).
        max_in_flight: cap on requests in flight; what is due beyond it waits, and that is counted.
    """

    kind: Literal["open"] = "open"
    rate: PositiveFloat
    arrivals: Literal["poisson", "constant"] = "poisson"
    max_in_flight: PositiveInt = 256

    @property
    def key(self) -> str:
        """A short unique name, such as ``poisson200``."""
        return f"{self.arrivals}{self.rate:g}"


Load = Annotated[ClosedLoad | OpenLoad, Field(discriminator="kind")]


class Point(Frozen):
    """One load level on one server configuration: what is measured, in one or more trials."""

    configuration: ServerConfiguration
    workload: Workload
    load: Load

    @property
    def key(self) -> str:
        """The point's name in every table, such as ``cnn-i2-d1000-http-b8-c16``."""
        return f"{self.configuration.key}-{self.workload.key}-{self.load.key}"
