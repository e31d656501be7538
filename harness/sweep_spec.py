"""What a scenario says of its sweep: the axes, each with the values that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from harness.point import (
    MOST_IN_FLIGHT,
    ClosedLoad,
    DynamicBatching,
    Frozen,
    OpenLoad,
    Precision,
    Whole,
)
from harness.presets import Preset, with_preset
from harness.shapes import LoadModel
from harness.units import Count, Instances, Rate, Users, listed

if TYPE_CHECKING:
    from harness.point import Load

__all__ = ["Sweep"]

Devices = Annotated[tuple[Annotated[Whole, Field(ge=0)], ...], Field(min_length=1)]


def _device_lists(value: object) -> object:
    """Read ``0`` and ``[0, 1]`` as one list of devices, beside ``[[0], [1]]``, which is two."""
    value = listed(value)
    if isinstance(value, list | tuple) and not any(
        isinstance(each, list | tuple) for each in value
    ):
        return [value] if value else value
    return value


class Sweep(Frozen):
    """The axes: every combination is a point. A single value may stand for a list of one.

    Attributes:
        precision: each model in each of these (``float32``, ``float16``, ``int8``), as ``harness export --precision``
            calls it; the models as they are called where left out.
        instances: how many of the model run at once, on each device.
        kind: where they run: ``cpu`` or ``gpu``.
        gpus: the devices of the ``gpu`` kind, such as ``[0, 1]``, or several such lists to compare:
            ``[[0], [0, 1]]``; every GPU where left out.
        dynamic_batching: ``null`` is without it; ``{max_queue_delay_us: 0}`` is with it.
        max_batch_size: the most that the server puts together; the exported model's own where left out.
        protocol: ``http`` or ``grpc``.
        batch_size: inferences in one request, the client batch.
        preset: the load levels of an MLPerf LoadGen scenario: ``SingleStream``, ``MultiStream``, ``Server``
            or ``Offline``.
        concurrency: closed loops: so many users, each of which sends when it has its answer.
        rate: open loops: so many requests a second, whatever became of the others.
        load: anything else, such as ``{kind: ramp, from: 50, to: 400, over: 10s}``.
        arrivals: the gaps of open loops: ``poisson`` (exponential) or ``constant``.
        max_in_flight: the most requests in flight of an open loop; what is due beyond them waits.
    """

    precision: Annotated[tuple[Precision, ...], BeforeValidator(listed)] | None = None
    instances: Annotated[tuple[Instances, ...], BeforeValidator(listed)] = (1,)
    kind: Annotated[tuple[Literal["cpu", "gpu"], ...], BeforeValidator(listed)] = ("cpu",)
    gpus: Annotated[tuple[Devices, ...], BeforeValidator(_device_lists)] | None = None
    dynamic_batching: Annotated[tuple[DynamicBatching | None, ...], BeforeValidator(listed)] = (
        None,
    )
    max_batch_size: Annotated[tuple[Count, ...], BeforeValidator(listed)] | None = None
    protocol: Annotated[tuple[Literal["http", "grpc"], ...], BeforeValidator(listed)] = ("http",)
    batch_size: Annotated[tuple[Count, ...], BeforeValidator(listed)] = (1,)
    preset: Preset | None = None
    concurrency: Annotated[tuple[Users, ...], BeforeValidator(listed)] | None = None
    rate: Annotated[tuple[Rate, ...], BeforeValidator(listed)] | None = None
    load: Annotated[tuple[LoadModel, ...], BeforeValidator(listed)] | None = None
    arrivals: Literal["poisson", "constant"] = "poisson"
    max_in_flight: Users = MOST_IN_FLIGHT

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, data: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        return with_preset(data) if isinstance(data, dict) else data

    @field_validator("*")
    @classmethod
    def _usable_axis(cls, value: Any) -> Any:  # noqa: ANN401 - every axis has its own type
        if isinstance(value, tuple):
            if not value:
                raise ValueError("the axis is empty: give at least one value")
            if len(set(value)) != len(value):
                raise ValueError("a value stands twice: give each value once")
        return value

    @model_validator(mode="after")
    def _loaded(self) -> Self:
        if self.concurrency is None and self.rate is None and self.load is None:
            raise ValueError(
                "no load: give concurrency (a closed loop), rate (an open loop) or load (a shape)"
            )
        return self

    def most_users(self, open_loop: int) -> int:
        """The most users of its loads: a closed loop's concurrency, an open one's cap up to ``open_loop``."""
        return max(
            load.concurrency if load.kind == "closed" else min(load.max_in_flight, open_loop)
            for load in self.loads
        )

    @property
    def loads(self) -> tuple[Load, ...]:
        """Every load level: closed loops, open loops, and what ``load`` says."""
        cap = self.max_in_flight
        return (
            *(ClosedLoad(concurrency=users) for users in self.concurrency or ()),
            *(
                OpenLoad(rate=rate, arrivals=self.arrivals, max_in_flight=cap)
                for rate in self.rate or ()
            ),
            *(model.load(self.arrivals, cap) for model in self.load or ()),
        )

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.gpus is not None and "gpu" not in self.kind:
            raise ValueError("gpus are listed, and no instance is to run there: say kind: gpu")
        return self
