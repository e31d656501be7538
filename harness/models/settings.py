"""How a network is trained: hyper-parameters from the command line or a YAML file."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveInt, ValidationError

from harness.errors import UsageError
from harness.point import Frozen

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Settings", "read_settings", "read_values", "resolve_settings"]


class Settings(Frozen):
    """Everything that decides what a training run makes.

    Attributes:
        network: one of :data:`harness.networks.NETWORKS`.
        data: ``digits``, ``mnist``, ``fashion-mnist``, an ``.npz`` with ``x`` and ``y``, or a folder
            with one subfolder of images a class.
        full_scale: the value of a white pixel in ``data``; ``None`` takes the source's own (255 for
            whole numbers, 1 for fractions).
        resize: bring images of another size to 28×28 instead of leaving them out.
        epochs, batch_size, learning_rate: of Adam. ``learning_rate`` is Keras' own default.
        l1, l2: weights of the penalties on every kernel (biases are free).
        early_stopping: stop once the validation loss has not fallen for ``patience`` epochs, and keep
            the best weights.
        seed: seeds the split, the weights and the order of the examples.
    """

    network: str = "cnn"
    data: str = "digits"
    full_scale: Annotated[FiniteFloat, Field(gt=0)] | None = None
    resize: bool = False
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 5
    batch_size: PositiveInt = 64
    learning_rate: Annotated[FiniteFloat, Field(gt=0)] = 0.001
    l1: Annotated[NonNegativeFloat, FiniteFloat] = 0.0
    l2: Annotated[NonNegativeFloat, FiniteFloat] = 0.0
    early_stopping: bool = False
    patience: PositiveInt = 3
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 7


def resolve_settings(values: dict[str, Any], where: dict[str, str] | None = None) -> Settings:
    """Validate ``values``, named as the attributes of :class:`Settings`.

    Args:
        values: what was given; what is left out takes its default.
        where: the place each value came from, such as ``train.yaml, line 3``; by default its option.

    Raises:
        UsageError: a value that cannot be used, or an unknown name.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        place = (where or {}).get(name, "--" + name.replace("_", "-"))
        if first["type"] == "extra_forbidden":
            raise _unknown(name, place) from error
        got = first["input"]
        where_it_stands = place if place.startswith("--") else f"{place}: {name}"
        raise UsageError(
            f"expected {_expected(name)}, got {got!r}", where=where_it_stands
        ) from error


def read_settings(path: Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Read settings from a YAML file; ``overrides`` (from the command line) win.

    Raises:
        UsageError: the file is missing, no YAML mapping, or holds a wrong key or value.
    """
    values, where = read_values(path)
    overrides = overrides or {}
    kept = {name: place for name, place in where.items() if name not in overrides}
    return resolve_settings(values | overrides, kept)


def read_values(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the values of a YAML mapping, and where in the file each stands.

    Raises:
        UsageError: the file is missing or no YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UsageError(
            f"not a readable settings file ({' '.join(reason.split())})",
            where=str(path),
            remedy="Give a YAML file of settings, such as the best.yaml that harness tune writes",
        ) from error
    if not isinstance(data, dict):
        raise UsageError("expected settings such as 'epochs: 5', one a line", where=str(path))
    lines = {}
    if isinstance(tree, yaml.MappingNode):
        lines = {str(key.value): key.start_mark.line + 1 for key, _ in tree.value}
    where = {str(key): f"{path}, line {lines.get(str(key), 1)}" for key in data}
    return {str(key): value for key, value in data.items()}, where


def _expected(name: str) -> str:
    """What a setting must be, in words, from its type and its bounds."""
    schema = Settings.model_json_schema()["properties"][name]
    schema = next((each for each in schema.get("anyOf", ()) if "type" in each), schema)
    words = {
        "integer": "a whole number",
        "number": "a finite number",
        "boolean": "true or false",
        "string": "text",
    }[schema["type"]]
    if (above := schema.get("exclusiveMinimum")) is not None:
        words += f" above {above:g}"
    if (least := schema.get("minimum")) is not None:
        words += f" from {least:g} on" if "maximum" not in schema else f" from {least:g}"
    if (most := schema.get("maximum")) is not None:
        words += f" to {most:,}"
    if (below := schema.get("exclusiveMaximum")) is not None:
        words += f", below {below:,}"
    return words


def _unknown(name: str, place: str) -> UsageError:
    known = list(Settings.model_fields)
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"The nearest is {near[0]}" if near else f"Known are {', '.join(known)}"
    return UsageError(f"unknown setting {name!r}", where=place, remedy=remedy)
