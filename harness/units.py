"""Quantities with their units, as a scenario writes them: 250ms, 512m, 15%."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from harness.point import Frozen, Whole, number

__all__ = [
    "MOST_RATE",
    "Count",
    "Cpus",
    "Fraction",
    "Instances",
    "Rate",
    "Seconds",
    "Users",
    "WithUnits",
    "listed",
    "short_name",
]

UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
# Linux has about 28,000 ports for connections to one address.
MOST_USERS = 20_000
MOST_INSTANCES = 1_024
MOST_RATE = 1e6  # requests per second: far beyond what one generator sends
UNITS_BYTES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _fraction(value: object, info: ValidationInfo) -> object:
    """Turn ``"15%"`` into 0.15; a number is taken as the fraction it is, at most 1."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*%\s*", value)
        if match is None:
            raise ValueError("expected a percentage such as 15%")
        value, most = float(match[1]) / 100, "at most 100%"
    else:
        most = f"at most 1 (for {value} per cent write {value}%)"
    # Only a file has a context: a run that was measured before there was a bound stays readable.
    if info.context is not None and isinstance(value, int | float) and value > 1:
        raise ValueError(f"expected {most}")
    return number(value)


def _users(value: int) -> int:
    if value > MOST_USERS:
        raise ValueError(f"expected at most {MOST_USERS:,}, since each is a socket of one process")
    return value


def _instances(value: int) -> int:
    if value > MOST_INSTANCES:
        raise ValueError(
            f"expected at most {MOST_INSTANCES:,}, since each is a copy of the model in memory"
        )
    return value


def _rate(value: float) -> float:
    if value > MOST_RATE:
        raise ValueError(f"expected at most {MOST_RATE:,.0f}")
    return value


def listed(value: object) -> object:
    """Accept a single value where a list is meant."""
    return value if isinstance(value, list | tuple) else [value]


Count = Annotated[Whole, Field(gt=0)]
Users = Annotated[Count, AfterValidator(_users)]
Instances = Annotated[Count, AfterValidator(_instances)]
Rate = Annotated[
    float, BeforeValidator(number), Field(gt=0, allow_inf_nan=False), AfterValidator(_rate)
]
Seconds = Annotated[float, BeforeValidator(number), Field(gt=0, allow_inf_nan=False)]
Cpus = Annotated[tuple[Annotated[Whole, Field(ge=0)], ...], BeforeValidator(listed)]
Fraction = Annotated[float, BeforeValidator(_fraction), Field(ge=0, allow_inf_nan=False)]


class WithUnits(Frozen):
    """A record whose quantities are written with their unit: ``window: 250ms`` sets ``window_s``.

    Attributes:
        FOUND: fields that no user writes, since the record finds them itself.
    """

    FOUND: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _quantities(cls, data: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        if not isinstance(data, dict):
            return data
        read = dict(data)
        for field in cls.model_fields:
            short = short_name(field)
            if short == field or short not in read:
                continue
            if field in read:
                raise ValueError(f"{short} and {field} are the same: give one of them")
            number = _bytes if field.endswith("_bytes") else _seconds
            read[field] = number(read.pop(short), short)
        return read


def short_name(field: str) -> str:
    """A field's name as a user writes it, without the unit."""
    return field.removesuffix("_s").removesuffix("_bytes")


def _seconds(value: object, key: str) -> float | None:
    """Turn ``"250ms"`` into seconds. A bare number is refused, since its unit would be a guess."""
    if value is None:
        return None
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(us|ms|s|min|m|h)\s*", str(value))
    if match is None:
        raise _wrong(key, value, "a duration with its unit, such as 250ms, 1s or 5m")
    return float(match[1]) * UNITS_S[match[2]]


def _bytes(value: object, key: str) -> int | None:
    """Turn ``"512m"`` or ``"1.5GiB"`` into bytes: powers of 1024, as Docker reads them."""
    if value is None:
        return None
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt])(?:i?b)?\s*", str(value).lower())
    if match is None:
        raise _wrong(key, value, "a size with its unit, such as 512m or 2g")
    return round(float(match[1]) * UNITS_BYTES[match[2]])


def _wrong(key: str, value: object, expected: str) -> PydanticCustomError:
    """An error that names its key: pydantic places it at the record, whose fields are not read yet."""
    context = {"key": key, "value": value, "expected": expected}
    return PydanticCustomError("quantity", "{key}: expected {expected}", context)
