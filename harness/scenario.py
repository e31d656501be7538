"""What to measure: the words of a sweep, and a scenario file read into them.

A scenario is a YAML file. :func:`read_scenario` turns it into a frozen :class:`Scenario`, or says in
one sentence which line and key is wrong, what was expected there, and the nearest right spelling.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from harness.point import DynamicBatching, Frozen

__all__ = ["Measure", "Scenario", "ServerSpec", "Slo", "Sweep"]

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
DURATION_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def _seconds(value: object) -> object:
    """Turn ``"250ms"`` into seconds; a bare number is refused, since its unit would be a guess."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(us|ms|s|min|m|h)\s*", value)
        if match:
            return float(match[1]) * DURATION_UNITS_S[match[2]]
    raise ValueError("expected a duration with its unit, such as 250ms, 1s or 5m")


def _fraction(value: object) -> object:
    """Turn ``"15%"`` into 0.15; a number is taken as the fraction it is."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*%\s*", value)):
        return float(match[1]) / 100
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError("expected a percentage such as 15%")


def _listed(value: object) -> object:
    """Accept a single value where a list is meant."""
    return value if isinstance(value, list | tuple) else [value]


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
Fraction = Annotated[float, BeforeValidator(_fraction)]


class ServerSpec(Frozen):
    """Where the model is served.

    Attributes:
        kind: ``embedded`` (a real ``tritonserver`` process, no container), ``container`` or ``remote``.
        ready_timeout_s: how long the server and a model may take to become ready.
        http_port, grpc_port, metrics_port: 0 picks a free one.
    """

    kind: Literal["embedded"] = "embedded"
    http_port: NonNegativeInt = 0
    grpc_port: NonNegativeInt = 0
    metrics_port: NonNegativeInt = 0
    ready_timeout_s: Annotated[Seconds, Field(alias="ready_timeout")] = 60.0


class Sweep(Frozen):
    """The axes. Every combination is a point; the first two belong to the server, the rest to the load."""

    instances: Annotated[tuple[PositiveInt, ...], BeforeValidator(_listed)] = (1,)
    dynamic_batching: Annotated[tuple[DynamicBatching | None, ...], BeforeValidator(_listed)] = (
        None,
    )
    max_batch_size: Annotated[tuple[PositiveInt, ...], BeforeValidator(_listed)] = (64,)
    protocol: Annotated[tuple[Literal["http", "grpc"], ...], BeforeValidator(_listed)] = ("http",)
    batch_size: Annotated[tuple[PositiveInt, ...], BeforeValidator(_listed)] = (1,)
    concurrency: Annotated[tuple[PositiveInt, ...], BeforeValidator(_listed)] = ()
    rate: Annotated[tuple[PositiveFloat, ...], BeforeValidator(_listed)] = ()
    arrivals: Annotated[tuple[Literal["poisson", "constant"], ...], BeforeValidator(_listed)] = (
        "poisson",
    )
    max_in_flight: PositiveInt = 256

    @field_validator("*")
    @classmethod
    def _distinct(cls, value: Any) -> Any:  # noqa: ANN401 - every axis has its own type
        if isinstance(value, tuple) and len(set(value)) != len(value):
            raise ValueError("expected each value once")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for axis in ("instances", "dynamic_batching", "max_batch_size", "protocol", "batch_size"):
            if not getattr(self, axis):
                raise ValueError(f"the axis {axis} is empty: give at least one value")
        if not self.concurrency and not self.rate:
            raise ValueError("no load: give concurrency (closed loop) or rate (open loop)")
        return self


class Measure(Frozen):
    """How each point is measured.

    Attributes:
        window_s: length of one measured window.
        passes: how often every point is visited, each time in another random order.
        max_passes: how often it may be visited until ``target`` is met.
        target: relative half-width of the 95 % interval that is aimed for, by quantity.
        warmup_min_s, warmup_max_s: bounds on what is left out before the window.
        seed: seeds every random choice.
    """

    window_s: Annotated[Seconds, Field(alias="window")] = 1.0
    passes: Annotated[int, Field(ge=1, le=1000)] = 4
    max_passes: Annotated[int, Field(ge=1, le=1000)] | None = None
    target: dict[Literal["throughput", "p99"], Fraction] = Field(default_factory=dict)
    warmup_min_s: Annotated[Seconds, Field(alias="warmup_min")] = 0.2
    warmup_max_s: Annotated[Seconds, Field(alias="warmup_max")] = 2.0
    request_timeout_s: Annotated[Seconds, Field(alias="request_timeout")] = 30.0
    seed: NonNegativeInt = 7

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_passes is not None and self.max_passes < self.passes:
            raise ValueError(f"max_passes {self.max_passes} is below passes {self.passes}")
        if self.warmup_max_s < self.warmup_min_s:
            raise ValueError("warmup_max is below warmup_min")
        for name, half_width in self.target.items():
            if half_width <= 0:
                raise ValueError(f"target {name}: expected more than 0%")
        return self


class Slo(Frozen):
    """The service level objective: the bounds within which a configuration may win.

    Attributes:
        p99_s: the largest 99th percentile of latency, in seconds; ``None`` for no bound.
        errors: the largest share of failed requests.
    """

    p99_s: Annotated[Seconds, Field(alias="p99")] | None = None
    errors: Fraction = 0.0


class Scenario(Frozen):
    """A scenario as resolved: every default filled in."""

    name: Annotated[str, Field(pattern=MODEL_NAME)]
    model: Annotated[str, Field(pattern=MODEL_NAME)] = "cnn"
    server: ServerSpec = ServerSpec()
    sweep: Sweep
    measure: Measure = Measure()
    slo: Slo = Slo()
