"""The text of a scenario: where a key stands in it, and what is said of a wrong one."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, get_args

import yaml
from pydantic import AliasChoices

from harness.errors import UsageError
from harness.point import Frozen
from harness.units import WithUnits, short_name

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "as_written",
    "child",
    "first_of",
    "keys_beside",
    "nearest",
    "refuse_repeated_keys",
    "safe_name",
    "say",
]

REMEDIES = {
    "written_secret": "Say {env: VARIABLE}, and put the value into that environment variable",
    "own_header": "Leave it out",
}
# What stands where a mapping is wanted, by key.
MAPPINGS = {
    "server": "a mapping such as {kind: embedded}",
    "generator": "a mapping such as {cpus: [1]}",
    "sweep": "a mapping such as {concurrency: [1, 8]}",
    "measure": "a mapping such as {window: 1s}",
    "slo": "a mapping such as {p99: 25ms}",
    "dynamic_batching": "null (off) or {max_queue_delay_us: 500}",
    "load": "a mapping such as {kind: ramp, from: 50, to: 400, over: 10s}",
    "rate_limiter": "a mapping such as {resources: {R1: 1}}",
    "tls": "a mapping such as {ca: ca.pem}",
    "trace": "a mapping such as {rate: 1000}",
}


def refuse_repeated_keys(node: yaml.Node | None, where: str) -> None:
    """YAML would silently keep the last of two equal keys."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            refuse_repeated_keys(item, where)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UsageError(
                    "a key is a list or a mapping",
                    where=f"{where}:{line}",
                    remedy="Keys are words, such as model: and sweep:",
                )
            if key.value in seen:
                raise UsageError(
                    f"{key.value} stands twice (first on line {seen[key.value]})",
                    where=f"{where}:{line}",
                    remedy="Keep one of them",
                )
            seen[key.value] = line
            refuse_repeated_keys(value, where)


def nearest(word: str, known: list[str]) -> str:
    """The way out for an unknown word: the nearest known one, or all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]}?" if close else "Known here: " + ", ".join(known)


def keys_beside(path: list[str], record: type[Frozen]) -> list[str]:
    """The keys that are known at ``path`` in what is read into ``record``, as a user writes them."""
    beside = [record]
    for part in path:
        fields = [each.model_fields[part] for each in beside if part in each.model_fields]
        within = [inner for field in fields for inner in _records_in(field.annotation)]
        # Of a union, pydantic names the one by its kind; what is neither is an index, or a mapping's key.
        beside = within or [each for each in beside if part in _kinds(each)] or beside
    return [key for each in beside for key in _keys_of(each)]


def _records_in(annotation: object) -> list[type[Frozen]]:
    """The records that stand somewhere in a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return [annotation]
    return [inner for part in get_args(annotation) for inner in _records_in(part)]


def _kinds(record: type[Frozen]) -> tuple[str, ...]:
    """What the ``kind`` of a record may be."""
    kind = record.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _keys_of(record: type[Frozen]) -> list[str]:
    """The keys of one record, as a user writes them."""
    if not issubclass(record, WithUnits):
        return list(record.model_fields)
    return [
        str(alias.choices[0])
        if isinstance(alias := field.validation_alias, AliasChoices)
        else short_name(name)
        for name, field in record.model_fields.items()
        if name not in record.FOUND
    ]


def child(node: yaml.Node | None, part: str) -> tuple[yaml.Node, int] | None:
    """The value under a key or index and the line it stands on; ``window_s`` is found as ``window``."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in (part, short_name(part)):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        item = node.value[int(part)]
        return item, item.start_mark.line + 1
    return None


def first_of(problems: list[ErrorDetails]) -> ErrorDetails:
    """The problem to tell first: a misspelt key is why another one is missing."""
    misspelt = (each for each in problems if each["type"] == "extra_forbidden")
    return next(misspelt, problems[0])


def say(problem: ErrorDetails, path: list[str], message: str) -> tuple[str, str | None]:
    """What is said of a wrong value at ``path``: the message, clearer than pydantic's, and the way out."""
    kind = problem["type"]
    if kind.startswith("union_tag_"):
        return _which_kind(problem)
    if kind == "missing":
        message = f"{short_name(path[-1])} is missing"
    elif kind == "too_short":
        message = f"the {'axis' if len(path) == 1 else 'list'} is empty: give at least one value"
    elif kind in {"model_type", "model_attributes_type", "dict_type"}:
        key = next((part for part in reversed(path) if not part.isdigit()), "")
        message = f"expected {MAPPINGS.get(key, 'a mapping')}"
    elif kind == "other_kind":
        return message, f"Leave it out, or say kind: {problem['ctx']['having']}"
    return message, REMEDIES.get(kind)


def _which_kind(problem: ErrorDetails) -> tuple[str, str]:
    """The message and the way out where it is not clear which kind of load is meant."""
    if "tag" not in problem["ctx"]:
        return "kind is missing", "Say which, such as {kind: ramp, from: 50, to: 400, over: 10s}"
    kinds = problem["ctx"]["expected_tags"].replace("'", "").split(", ")
    return f"unknown kind {problem['ctx']['tag']!r}", nearest(problem["ctx"]["tag"], kinds)


def as_written(node: yaml.Node | None, value: object) -> str:
    """A value as the file has it: YAML reads ``off`` as false."""
    written = isinstance(node, yaml.ScalarNode) and not isinstance(value, str)
    return str(node.value) if written and node else repr(value)


def safe_name(stem: str) -> str:
    """A file's name as a scenario's: letters, digits, points, hyphens and underscores."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-_.")
    return name[:128] or "scenario"
