"""A scenario: what to measure, as a YAML file read into a frozen :class:`Scenario`.

A wrong file gets one sentence: the line, the key, what was expected there, and the nearest right
spelling.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from harness.errors import UsageError
from harness.generator_spec import GeneratorSpec
from harness.point import (
    Frozen,
    Precision,
    Whole,
    variant_name,
)
from harness.scenario_text import (
    as_written,
    child,
    first_of,
    keys_beside,
    nearest,
    refuse_repeated_keys,
    safe_name,
    say,
)
from harness.server_spec import ServerSpec
from harness.sweep_spec import Sweep
from harness.units import (
    Fraction,
    Seconds,
    WithUnits,
    listed,
    short_name,
)

if TYPE_CHECKING:
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
A_FILE = "Give the path of a YAML file, such as scenarios/quickstart.yaml"

Name = Annotated[str, Field(pattern=NAME)]


class Measure(WithUnits):
    """How each point is measured.

    Attributes:
        window_s: length of one measured window.
        passes: how often every point is visited, each time in another random order.
        max_passes: how often it may be visited until ``target`` is met; four times ``passes`` if left out.
        max_time_s: how long after the run's start such a further visit may begin; no bound where left out.
        target: relative half-width of the 95 % interval that is aimed for, by quantity, such as
            ``{throughput: 5%, p99: 10%}``.
        warmup_min_s, warmup_max_s: bounds on what is left out before the window.
        request_timeout_s: after this long a request has failed.
        sender: ``raw`` sends requests that were prepared once over plain sockets; ``tritonclient`` sends
            through that library's own clients, as most applications do, at about five times the CPU.
        sentinels: measure one point at the start, in the middle and at the end, to show drift; with two passes
            or more.
        seed: seeds every random choice.
    """

    window_s: Seconds = 1.0
    passes: Annotated[Whole, Field(ge=1, le=1000)] = 4
    max_passes: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    max_time_s: Seconds | None = None
    target: dict[Literal["throughput", "p99"], Fraction] = Field(default_factory=dict)
    warmup_min_s: Seconds = 0.2
    warmup_max_s: Seconds = 2.0
    request_timeout_s: Seconds = 30.0
    sender: Literal["raw", "tritonclient"] = "raw"
    sentinels: bool = True
    seed: Annotated[Whole, Field(ge=0)] = 7

    @property
    def most_passes(self) -> int:
        """How often a point is visited at most."""
        return (self.max_passes or 4 * self.passes) if self.target else self.passes

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        if self.max_passes is not None and self.max_passes < self.passes:
            raise ValueError(f"max_passes {self.max_passes} is below passes {self.passes}")
        for name, bound in (("max_passes", self.max_passes), ("max_time", self.max_time_s)):
            # Only a file has a context: a run that was measured while this was let pass stays readable.
            if bound is not None and not self.target and info.context is not None:
                raise ValueError(f"{name} bounds what a target asks for: give target, too")
        if self.warmup_max_s < self.warmup_min_s:
            raise ValueError("warmup_max is below warmup_min")
        for quantity, half_width in self.target.items():
            if half_width == 0:
                raise ValueError(f"target {quantity}: an interval of 0% takes for ever; give more")
        return self


class Slo(WithUnits):
    """The service level objective: the bounds within which a configuration may win.

    Attributes:
        p99_s: the largest 99th percentile of latency; no bound where left out.
        errors: the largest share of requests that may fail.
    """

    p99_s: Seconds | None = None
    errors: Fraction = 0.0


class Scenario(Frozen):
    """A scenario as resolved: every default filled in.

    Attributes:
        name: of the run's folder and report; the file's where left out.
        model: the exported models that are measured, such as ``[cnn, rnn]``, in the folder that
            ``harness run --models`` names.
        server: where they are served.
        generator: where the load comes from.
        sweep: what is varied.
        measure: how each point is measured.
        slo: what is good enough to win.
    """

    name: Name
    model: Annotated[tuple[Name, ...], BeforeValidator(listed), Field(min_length=1)] = ("cnn",)
    server: ServerSpec = ServerSpec()
    generator: GeneratorSpec = GeneratorSpec()
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
        if path.exists() and not path.is_file():
            raise UsageError("no file", where=str(path), remedy=A_FILE)
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST_FILE_BYTES + 1)
        if len(text.encode()) > LARGEST_FILE_BYTES:
            raise UsageError("too large for a scenario", where=str(path))
    except OSError as error:
        raise UsageError(
            f"the scenario cannot be read ({error.strerror})",
            where=str(path),
            remedy=A_FILE,
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError("the scenario is not UTF-8 text", where=str(path)) from error
    scenario = parse_scenario(text, name=safe_name(path.stem), where=str(path), folder=path.parent)
    return scenario, text


def parse_scenario(text: str, *, name: str, where: str, folder: Path | None = None) -> Scenario:
    """Parse the text of a scenario; ``where`` names it in errors.

    Files that it names lie relative to ``folder``, by default the current one.

    Raises:
        UsageError: it is wrong, with the line and the way out.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        refuse_repeated_keys(root, where)
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
        context = {"folder": folder or Path()}
        return Scenario.model_validate({"name": name, **data}, context=context)
    except ValidationError as error:
        raise _explain(first_of(error.errors()), root, where) from error


def _explain(problem: ErrorDetails, root: yaml.Node | None, where: str) -> UsageError:
    """Turn pydantic's first complaint into a sentence with the line, the key and the way out."""
    path = [str(part) for part in problem["loc"]]
    value = problem["input"]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "quantity":
        path, value = [*path, problem["ctx"]["key"]], problem["ctx"]["value"]
        message = message.removeprefix(f"{path[-1]}: ")
    node, line, keys = root, 1, list[str]()
    for part in path:
        found = child(node, part)
        if found is None:
            continue  # a union's branch or a missing key: the enclosing place is the best there is
        node, line = found
        keys.append(short_name(part))
    message = message[0].lower() + message[1:]
    remedy: str | None
    if problem["type"] == "extra_forbidden":
        message, remedy = "unknown key", nearest(path[-1], keys_beside(path[:-1], Scenario))
    else:
        message, remedy = say(problem, path, message)
        if (
            remedy is None
            and path[-1:] != ["token_env"]
            and isinstance(value, str | int | float | bool)
        ):
            message = f"{message}, not {as_written(node, value)}"
    place = ".".join(keys)
    return UsageError(
        f"{place}: {message}" if place else message, where=f"{where}:{line}", remedy=remedy
    )
