"""The text of a scenario: where a key stands in it, and what is said of a wrong one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import yaml

from harness.errors import UsageError
from harness.units import short_name

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["child", "nearest", "refuse_repeated_keys", "which_kind"]


def refuse_repeated_keys(node: yaml.Node | None, where: str) -> None:
    """YAML would silently keep the last of two equal keys."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            refuse_repeated_keys(item, where)
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
            refuse_repeated_keys(value, where)


def which_kind(problem: ErrorDetails) -> tuple[str, str]:
    """The message and the way out where it is not clear which kind of load is meant."""
    if "tag" not in problem["ctx"]:
        return "kind is missing", "Say which, such as {kind: ramp, from: 50, to: 400, over: 10s}"
    kinds = problem["ctx"]["expected_tags"].replace("'", "").split(", ")
    return f"unknown kind {problem['ctx']['tag']!r}", nearest(problem["ctx"]["tag"], kinds)


def nearest(word: str, known: list[str]) -> str:
    """The way out for an unknown word: the nearest known one, or all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]}?" if close else "Known here: " + ", ".join(known)


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
