"""What a run was measured on: host, server, software, model, command."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report.formats import byte_size, duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.records import RunRecord

__all__ = ["Facts", "environment"]

LONGEST_VALUE = 300
DEEPEST = 4
NAMES = {"cpu_model": "CPU", "memory_bytes": "memory", "load_average_1m": "load average before"}


@dataclass(frozen=True)
class Facts:
    """A group of facts: its name, and pairs of a name and a value."""

    name: str
    pairs: tuple[tuple[str, str], ...]


def environment(record: RunRecord) -> list[Facts]:
    """Everything that the run noted down about where it ran, in groups."""
    groups = [
        Facts("Run", tuple(_run(record))),
        Facts("Host", tuple(_flat(record.host))),
        Facts("Server", tuple(_flat(record.server))),
        *_models(record.model),
        Facts("Packages", tuple(_flat(record.packages))),
    ]
    return [group for group in groups if group.pairs]


def _models(models: Mapping[str, Any]) -> list[Facts]:
    """A group for each model of the run, from what its export noted down."""
    if all(isinstance(each, dict) for each in models.values()):
        return [Facts(f"Model {name}", tuple(_flat(each))) for name, each in models.items()]
    return [Facts("Model", tuple(_flat(models)))]


def _run(record: RunRecord) -> Iterator[tuple[str, str]]:
    yield "started", f"{record.created_utc:%Y-%m-%d %H:%M:%S} UTC"
    if record.finished_utc is not None:
        yield "took", duration(record.finished_utc - record.created_utc)
    yield "status", record.status
    yield "run", record.run_id
    yield "seed", str(record.seed)
    if record.command:
        yield "command", " ".join(map(_quoted, record.command))
    yield "harness", record.harness_version
    if record.git_revision:
        yield "git revision", record.git_revision


def _quoted(word: str) -> str:
    """A word as a shell would need it; letters of any script need no quotes to be read."""
    return word if re.fullmatch(r"[\w@%+=:,./…-]+", word) else shlex.quote(word)


def _flat(facts: Mapping[str, Any], path: str = "", depth: int = 1) -> Iterator[tuple[str, str]]:
    """A nested JSON object as pairs, names joined by a middle dot; what is too long is cut."""
    for key, value in facts.items():
        name = f"{path} · {NAMES.get(key, key)}" if path else NAMES.get(key, key)
        name = name.replace("_", " ")
        if isinstance(value, dict) and depth < DEEPEST:
            yield from _flat(value, name, depth + 1)
        elif value not in (None, "", [], {}):
            yield name, _value(key, value)


def _value(key: str, value: Any) -> str:  # noqa: ANN401 - any JSON value
    if key.endswith("_bytes") and isinstance(value, int):
        return byte_size(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
