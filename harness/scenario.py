"""A scenario: what to measure, as a YAML file read into a frozen :class:`Scenario`.

A wrong file gets one sentence: the line, the key, what was expected there, and the nearest right
spelling.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from harness.errors import UsageError
from harness.point import DynamicBatching, Frozen, Precision, variant_name
from harness.server_spec import ServerSpec
from harness.units import Fraction, Seconds, WithUnits, listed, short_name

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

__all__ = [
    "Measure",
    "Scenario",
    "ServerSpec",
    "Slo",
    "Sweep",
    "parse_scenario",
    "read_scenario",
]

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
LARGEST_FILE_BYTES = 1_000_000

Name = Annotated[str, Field(pattern=NAME)]
Devices = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]


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

    ``max_batch_size`` left out means the exported model's own. ``precision`` left out means the models as
    they are called; else each of them in each precision, as ``harness export --precision`` calls it.
    ``kind`` is where instances run; ``gpus``
    lists the devices of the ``gpu`` kind, such as ``[0, 1]``, or several such lists to compare:
    ``[[0], [0, 1]]``. Left out, instances run on every GPU; ``instances`` counts those of each.
    """

    precision: Annotated[tuple[Precision, ...], BeforeValidator(listed)] | None = None
    instances: Annotated[tuple[PositiveInt, ...], BeforeValidator(listed)] = (1,)
    kind: Annotated[tuple[Literal["cpu", "gpu"], ...], BeforeValidator(listed)] = ("cpu",)
    gpus: Annotated[tuple[Devices, ...], BeforeValidator(_device_lists)] | None = None
    dynamic_batching: Annotated[tuple[DynamicBatching | None, ...], BeforeValidator(listed)] = (
        None,
    )
    max_batch_size: Annotated[tuple[PositiveInt, ...], BeforeValidator(listed)] | None = None
    protocol: Annotated[tuple[Literal["http", "grpc"], ...], BeforeValidator(listed)] = ("http",)
    batch_size: Annotated[tuple[PositiveInt, ...], BeforeValidator(listed)] = (1,)
    concurrency: Annotated[tuple[PositiveInt, ...], BeforeValidator(listed)] | None = None
    rate: Annotated[tuple[PositiveFloat, ...], BeforeValidator(listed)] | None = None
    arrivals: Literal["poisson", "constant"] = "poisson"
    max_in_flight: PositiveInt = 256

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
        if self.concurrency is None and self.rate is None:
            raise ValueError("no load: give concurrency (a closed loop) or rate (an open loop)")
        return self

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.gpus is not None and "gpu" not in self.kind:
            raise ValueError("gpus are listed, and no instance is to run there: say kind: gpu")
        return self


class Measure(WithUnits):
    """How each point is measured.

    Attributes:
        window_s: length of one measured window.
        passes: how often every point is visited, each time in another random order.
        max_passes: how often it may be visited until ``target`` is met; as ``passes`` if left out.
        target: relative half-width of the 95 % interval that is aimed for, by quantity.
        warmup_min_s, warmup_max_s: bounds on what is left out before the window.
        request_timeout_s: after this long a request has failed.
        sender: ``raw`` sends requests that were prepared once over plain sockets; ``tritonclient`` sends
            through that library's own clients, as most applications do, at three times the CPU.
        sentinels: measure one point at the start, in the middle and at the end, to show drift.
        seed: seeds every random choice.
    """

    window_s: Seconds = 1.0
    passes: Annotated[int, Field(ge=1, le=1000)] = 4
    max_passes: Annotated[int, Field(ge=1, le=1000)] | None = None
    target: dict[Literal["throughput", "p99"], Fraction] = Field(default_factory=dict)
    warmup_min_s: Seconds = 0.2
    warmup_max_s: Seconds = 2.0
    request_timeout_s: Seconds = 30.0
    sender: Literal["raw", "tritonclient"] = "raw"
    sentinels: bool = True
    seed: NonNegativeInt = 7

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_passes is not None and self.max_passes < self.passes:
            raise ValueError(f"max_passes {self.max_passes} is below passes {self.passes}")
        if self.warmup_max_s < self.warmup_min_s:
            raise ValueError("warmup_max is below warmup_min")
        for quantity, half_width in self.target.items():
            if half_width == 0:
                raise ValueError(f"target {quantity}: an interval of 0% takes for ever; give more")
        return self


class Slo(WithUnits):
    """The service level objective: the bounds within which a configuration may win.

    Attributes:
        p99_s: the largest 99th percentile of latency; ``None`` for no bound.
        errors: the largest share of requests that may fail.
    """

    p99_s: Seconds | None = None
    errors: Fraction = 0.0


class Scenario(Frozen):
    """A scenario as resolved: every default filled in."""

    name: Name
    model: Annotated[tuple[Name, ...], BeforeValidator(listed), Field(min_length=1)] = ("cnn",)
    server: ServerSpec = ServerSpec()
    sweep: Sweep
    measure: Measure = Measure()
    slo: Slo = Slo()

    @property
    def variants(self) -> dict[str, Precision | None]:
        """The exported models that are measured, each with its precision where the sweep states it."""
        if self.sweep.precision is None:
            return dict.fromkeys(self.model)
        return {
            variant_name(model, precision): precision
            for model in self.model
            for precision in self.sweep.precision
        }


def read_scenario(path: Path) -> tuple[Scenario, str]:
    """Read a scenario file.

    Returns:
        The scenario, named after the file unless it names itself, and the text it was read from.

    Raises:
        UsageError: the file is missing or wrong, with the line and the way out.
    """
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise UsageError("too large for a scenario", where=str(path))
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the scenario cannot be read ({error.strerror})",
            where=str(path),
            remedy="Give the path of a YAML file, such as scenarios/quickstart.yaml",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError("the scenario is not UTF-8 text", where=str(path)) from error
    return parse_scenario(text, name=path.stem, where=str(path)), text


def parse_scenario(text: str, *, name: str, where: str) -> Scenario:
    """Parse the text of a scenario; ``where`` names it in errors.

    Raises:
        UsageError: it is wrong, with the line and the way out.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeated_keys(root, where)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"not valid YAML ({error.problem})", where=f"{where}{line}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"not valid YAML ({error})", where=where) from error
    if not isinstance(data, dict):
        raise UsageError(
            "expected keys such as model: and sweep:",
            where=where,
            remedy="Start from scenarios/quickstart.yaml",
        )
    try:
        return Scenario.model_validate({"name": name, **data})
    except ValidationError as error:
        raise _explain(error.errors()[0], root, where) from error


def _refuse_repeated_keys(node: yaml.Node | None, where: str) -> None:
    """YAML would silently keep the last of two equal keys."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(item, where)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise UsageError(
                    f"{key.value} stands twice (first on line {seen[key.value]})",
                    where=f"{where}:{line}",
                    remedy="Keep one of them",
                )
            seen[key.value] = line
            _refuse_repeated_keys(value, where)


def _explain(problem: ErrorDetails, root: yaml.Node | None, where: str) -> UsageError:
    """Turn pydantic's first complaint into a sentence with the line, the key and the way out."""
    path = [str(part) for part in problem["loc"]]
    node, line, keys = root, 1, list[str]()
    for part in path:
        found = _child(node, part)
        if found is None:
            continue  # a union's branch or a missing key: the enclosing place is the best there is
        node, line = found
        keys.append(part)
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    remedy = None
    if problem["type"] == "extra_forbidden":
        right = _keys_beside(path[:-1])
        close = difflib.get_close_matches(path[-1], right, n=1)
        message = "unknown key"
        remedy = f"Did you mean {close[0]}?" if close else "Known here: " + ", ".join(right)
    elif problem["type"] == "missing":
        message = f"{path[-1]} is missing"
    elif problem["type"] == "other_kind":
        remedy = f"Leave it out, or say kind: {problem['ctx']['having']}"
    elif problem["type"] == "written_secret":
        remedy = "Say {env: VARIABLE}, and put the value into that environment variable"
    elif problem["type"] == "own_header":
        remedy = "Leave it out"
    elif path[-1:] != ["token_env"] and isinstance(problem["input"], str | int | float | bool):
        message = f"{message}, not {problem['input']!r}"
    place = ".".join(keys)
    return UsageError(
        f"{place}: {message}" if place else message, where=f"{where}:{line}", remedy=remedy
    )


def _child(node: yaml.Node | None, part: str) -> tuple[yaml.Node, int] | None:
    """The value under a key or index and the line it stands on; ``window_s`` is found as ``window``."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in (part, short_name(part)):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        item = node.value[int(part)]
        return item, item.start_mark.line + 1
    return None


def _keys_beside(path: list[str]) -> list[str]:
    """The keys that are known at ``path``, as a user writes them."""
    kinds: dict[str, type[Frozen]] = {
        "server": ServerSpec,
        "sweep": Sweep,
        "measure": Measure,
        "slo": Slo,
    }
    kind: type[Frozen] = kinds.get(path[0], Scenario) if path else Scenario
    if "dynamic_batching" in path:
        kind = DynamicBatching
    fields = list(kind.model_fields)
    return [short_name(name) for name in fields] if issubclass(kind, WithUnits) else fields
