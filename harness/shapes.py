"""Load models as a scenario writes them, each turned into a load of :mod:`harness.point`.

A shape is a rate over time: stretches of a rate that is constant or changes linearly. Its integral is the
number of requests that are due on average; with equal gaps exactly that many are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

from harness.point import ClosedLoad, Frozen, OpenLoad, ShapedLoad, Stretch, number
from harness.replay import read_arrivals
from harness.units import MOST_RATE, Rate, Seconds, Users, WithUnits, listed

if TYPE_CHECKING:
    from harness.point import Load

__all__ = ["LoadModel"]

Gaps = Literal["poisson", "constant"]
ON_OFF_CYCLES = 10  # of a burst that does not say for how long it goes on


class _Open(WithUnits):
    """What every open load may say; what is left out is as in the sweep."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    max_in_flight: Users | None = None


class _WithoutGaps(_Open):
    """An open load whose arrivals need no word: its kind or its file has them."""

    @model_validator(mode="before")
    @classmethod
    def _as_stored(cls, data: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - whatever stands in the file
        """Only a file has a context: a run that was measured while ``arrivals`` was let pass stays readable."""
        if info.context is not None or not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if key != "arrivals"}


class _WithGaps(_Open):
    """An open load whose arrivals may be Poisson or have equal gaps."""

    arrivals: Gaps | None = None


class Closed(Frozen):
    """A closed loop."""

    kind: Literal["closed"]
    concurrency: Users

    def load(self, _arrivals: Gaps, _cap: int) -> Load:
        """The load."""
        return ClosedLoad(concurrency=self.concurrency)


class Steady(_WithoutGaps):
    """An open loop at one rate, with Poisson arrivals or equal gaps, as its kind says."""

    kind: Literal["poisson", "constant"]
    rate: Rate

    def load(self, _arrivals: Gaps, cap: int) -> Load:
        """The load."""
        return OpenLoad(rate=self.rate, arrivals=self.kind, max_in_flight=self.max_in_flight or cap)


class Soak(_WithGaps):
    """One long window of a steady load: at a ``rate``, or with a ``concurrency``."""

    kind: Literal["soak"]
    rate: Rate | None = None
    concurrency: Users | None = None
    for_s: Seconds

    @model_validator(mode="after")
    def _one(self, info: ValidationInfo) -> Self:
        if (self.rate is None) == (self.concurrency is None):
            raise ValueError("a soak has a rate or a concurrency: give one of them")
        # Only a file has a context: a run that was measured while they were let pass stays readable.
        if self.concurrency is not None and info.context is not None:
            for name in ("arrivals", "max_in_flight"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"a soak with a concurrency is a closed loop, which has no {name}: leave it out, or"
                        " give a rate"
                    )
        return self

    def load(self, arrivals: Gaps, cap: int) -> Load:
        """The load."""
        if self.concurrency is not None:
            return ClosedLoad(concurrency=self.concurrency, duration_s=self.for_s)
        assert self.rate is not None  # noqa: S101 - else there is a concurrency
        return OpenLoad(
            rate=self.rate,
            arrivals=self.arrivals or arrivals,
            max_in_flight=self.max_in_flight or cap,
            duration_s=self.for_s,
        )


class _Shape(_WithGaps, ABC):
    """A rate over time that has an end."""

    def load(self, arrivals: Gaps, cap: int) -> Load:
        """The load."""
        stretches, repeat, duration_s = self._course()
        round_s = sum(stretch.duration_s for stretch in stretches)
        kind: Any = getattr(self, "kind")  # noqa: B009 - each shape has its own
        return ShapedLoad(
            shape=kind,
            name=self._name(),
            rate=_due(stretches, duration_s, round_s) / duration_s,
            arrivals=self.arrivals or arrivals,
            max_in_flight=self.max_in_flight or cap,
            duration_s=duration_s,
            stretches=stretches,
            repeat=repeat,
        )

    @abstractmethod
    def _course(self) -> tuple[tuple[Stretch, ...], bool, float]:
        """The stretches, whether they are repeated, and when the shape ends, in seconds."""

    @abstractmethod
    def _name(self) -> str:
        """Its short name, such as ``ramp50-400-10s``."""


class Steps(_Shape):
    """One rate after the other, each as long."""

    kind: Literal["steps"]
    rates: Annotated[tuple[Rate, ...], BeforeValidator(listed), Field(min_length=1)]
    each_s: Seconds

    def _course(self) -> tuple[tuple[Stretch, ...], bool, float]:
        stretches = tuple(_flat(self.each_s, rate) for rate in self.rates)
        return stretches, False, self.each_s * len(stretches)

    def _name(self) -> str:
        return "steps" + "-".join(f"{rate:g}" for rate in self.rates) + f"-{self.each_s:g}s"


class Ramp(_Shape):
    """A rate that rises or falls linearly."""

    kind: Literal["ramp"]
    from_rate: Rate = Field(validation_alias=AliasChoices("from", "from_rate"))
    to_rate: Rate = Field(validation_alias=AliasChoices("to", "to_rate"))
    over_s: Seconds

    def _course(self) -> tuple[tuple[Stretch, ...], bool, float]:
        stretch = Stretch(duration_s=self.over_s, rate_start=self.from_rate, rate_end=self.to_rate)
        return (stretch,), False, self.over_s

    def _name(self) -> str:
        return f"ramp{self.from_rate:g}-{self.to_rate:g}-{self.over_s:g}s"


class Spike(_Shape):
    """A base rate, and a peak that comes at once and goes at once."""

    kind: Literal["spike"]
    base: Rate
    peak: Rate
    at_s: Seconds
    for_s: Seconds
    over_s: Seconds

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.at_s + self.for_s >= self.over_s:
            raise ValueError(
                f"the spike ends {self.at_s + self.for_s:g} s after the beginning, and the whole takes"
                f" {self.over_s:g} s: give over a longer time, so that the recovery is seen"
            )
        return self

    def _course(self) -> tuple[tuple[Stretch, ...], bool, float]:
        after_s = self.over_s - self.at_s - self.for_s
        return (
            (
                _flat(self.at_s, self.base),
                _flat(self.for_s, self.peak),
                _flat(after_s, self.base),
            ),
            False,
            self.over_s,
        )

    def _name(self) -> str:
        return (
            f"spike{self.base:g}-{self.peak:g}-at{self.at_s:g}s-for{self.for_s:g}s-{self.over_s:g}s"
        )


class Burst(_Shape):
    """A rate that is on for a while, then off (or at a base rate) for a while, again and again."""

    kind: Literal["burst"]
    rate: Rate
    base: Annotated[
        float, BeforeValidator(number), Field(ge=0, le=MOST_RATE, allow_inf_nan=False)
    ] = 0.0
    on_s: Seconds
    off_s: Seconds
    for_s: Seconds | None = None

    @model_validator(mode="before")
    @classmethod
    def _yes_and_no(cls, data: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        """YAML 1.1 takes ``on`` and ``off`` for true and false."""
        words = {True: "on", False: "off"}
        if not isinstance(data, dict):
            return data
        return {words[k] if isinstance(k, bool) else k: value for k, value in data.items()}

    def _course(self) -> tuple[tuple[Stretch, ...], bool, float]:
        stretches = (_flat(self.on_s, self.rate), _flat(self.off_s, self.base))
        return stretches, True, self.for_s or ON_OFF_CYCLES * (self.on_s + self.off_s)

    def _name(self) -> str:
        base = f"-base{self.base:g}" if self.base else ""
        return (
            f"burst{self.rate:g}{base}-on{self.on_s:g}s-off{self.off_s:g}s-{self._course()[2]:g}s"
        )


class Replayed(_WithoutGaps):
    """The arrival times of a file, as recorded or ``speed`` times as fast.

    ``path``, ``requests``, ``lasts_s`` and ``sha256`` are found by reading the file, which lies relative to
    the scenario's.
    """

    FOUND: ClassVar = ("path", "requests", "lasts_s", "sha256")

    kind: Literal["replay"]
    file: Annotated[str, Field(min_length=1)]
    speed: Rate = 1.0
    path: Path | None = Field(default=None, exclude=True)
    requests: PositiveInt | None = None
    lasts_s: PositiveFloat | None = None
    sha256: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - whatever stands in the file
        if not isinstance(data, dict) or not isinstance(data.get("file"), str):
            return data
        path = (info.context or {}).get("folder", Path()) / data["file"]
        if data.get("requests") and not path.is_file():
            return data  # a scenario as resolved: it was read before
        times, digest = read_arrivals(path)
        return {
            **data,
            "path": path.absolute(),
            "requests": len(times),
            "lasts_s": float(times[-1]),
            "sha256": digest,
        }

    @model_validator(mode="after")
    def _sendable(self) -> Self:
        if self.requests and self.lasts_s:
            rate = self.requests / self.lasts_s * self.speed
            if rate > MOST_RATE:
                raise ValueError(
                    f"the replay {Path(self.file).name} is due at {rate:,.0f} requests a second, more than"
                    f" the {MOST_RATE:,.0f} that may be: give a lower speed"
                )
        return self

    def load(self, _arrivals: Gaps, cap: int) -> Load:
        """The load; it ends with the last request that is due."""
        assert self.requests is not None and self.lasts_s is not None  # noqa: S101, PT018 - it was read
        lasts_s = self.lasts_s / self.speed
        faster = "" if self.speed == 1 else f"-x{self.speed:g}"
        return ShapedLoad(
            shape="replay",
            name=f"replay-{self.sha256[:8]}{faster}",
            rate=self.requests / lasts_s,
            arrivals="replayed",
            max_in_flight=self.max_in_flight or cap,
            duration_s=lasts_s,
            requests=self.requests,
            speed=self.speed,
            sha256=self.sha256,
            path=self.path,
        )


LoadModel = Annotated[
    Closed | Steady | Soak | Steps | Ramp | Spike | Burst | Replayed, Field(discriminator="kind")
]


def _flat(duration_s: float, rate: float) -> Stretch:
    return Stretch(duration_s=duration_s, rate_start=rate, rate_end=rate)


def _due(stretches: tuple[Stretch, ...], duration_s: float, round_s: float) -> float:
    """How many requests are due on average until ``duration_s``: the integral of the rate."""
    rounds, left = divmod(duration_s, round_s)
    total = rounds * sum(s.duration_s * (s.rate_start + s.rate_end) / 2 for s in stretches)
    for stretch in stretches:
        part_s = min(left, stretch.duration_s)
        slope = (stretch.rate_end - stretch.rate_start) / stretch.duration_s
        total += part_s * (stretch.rate_start + slope * part_s / 2)
        left -= part_s
    return total
