"""``docs/scenario.md`` is what the records that a scenario is read into say of themselves."""

from __future__ import annotations

import inspect
import json
import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from pydantic import BaseModel

import harness
from harness.generator_spec import GeneratorSpec
from harness.point import DynamicBatching
from harness.scenario import Measure, Scenario, Slo, Sweep, parse_scenario
from harness.server_spec import RateLimiter, ServerSpec, TlsSpec, TraceSpec
from harness.units import short_name

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(harness.__file__).parents[1]
INTRODUCTION = """\
# Scenario

Every key of a scenario file, as the records that it is read into explain themselves; written down by `make docs`.
Only `sweep` with a load is needed. Durations and sizes have their unit (`250ms`, `1s`, `5m`; `512m`, `2g`), shares may be
written as `5%`. Where a list is meant, a single value may stand for it. `harness run --dry-run` shows what a scenario
comes to without measuring it.
"""
# What a key's table stands under, in the order of the file.
SECTIONS: dict[str, type[BaseModel]] = {
    "": Scenario,
    "server": ServerSpec,
    "server.tls": TlsSpec,
    "server.rate_limiter": RateLimiter,
    "server.trace": TraceSpec,
    "generator": GeneratorSpec,
    "sweep": Sweep,
    "sweep.dynamic_batching": DynamicBatching,
    "measure": Measure,
    "slo": Slo,
}
MORE = {
    "server": "[Containers](containers.md) and [remote servers](remote.md) say more.",
    "sweep": "[Load models](load-models.md) has all of `load` and `preset`.",
    "measure": "[Statistics](statistics.md) says how many passes and how long a window are enough.",
    "slo": "A configuration that breaks one of these is shown, and does not win.",
}


def written_as(record: type[BaseModel], field: str) -> str:
    """A field's name in a file: those with a unit have it in their value."""
    short = short_name(field)
    takes_short = "_quantities" in dir(record) and short not in record.model_fields
    return short if takes_short else field


def explained(record: type[BaseModel]) -> dict[str, str]:
    """What a record's docstring says of each of its fields."""
    said = inspect.getdoc(record) or ""
    attributes = said.partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for names, text in re.findall(
        r"^    (\w[\w, ]*): (.*(?:\n {8,}.*)*)", attributes, re.MULTILINE
    ):
        for name in names.split(", "):
            found[name] = " ".join(text.split()).replace("``", "`").replace("|", "\\|")
    return found


def default_of(record: type[BaseModel], field: str) -> str:
    """A field's default as one would write it; empty for none."""
    info = record.model_fields[field]
    if info.is_required():
        return "" if (record, field) == (Scenario, "name") else "required"
    value = info.get_default(call_default_factory=True)
    if value is None or value in ((), {}) or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple) and len(value) == 1:
        (value,) = value
    if field.endswith("_bytes"):
        return f"`{value >> 30}g`"
    unit = "s" if written_as(record, field) != field else ""
    text = json.dumps(value) if not isinstance(value, float) else f"{value:g}"
    return "`" + text.strip('"') + unit + "`"


def section(name: str, record: type[BaseModel]) -> str:
    lead = (inspect.getdoc(record) or "").partition("\n\n")[0].replace("``", "`")
    heading = [f"## `{name}`", "", lead] if name else ["## The file"]
    heading += ["", "| key | default | |", "|---|---|---|"]
    rows = []
    # Those that one sentence explains together stand in one row.
    for text, fields in groupby(record.model_fields, key=explained(record).__getitem__):
        names, defaults = [], []
        for field in fields:
            key = written_as(record, field)
            path = ".".join(filter(None, (name, key)))
            link = f"[`{key}`](#{path.replace('.', '')})"
            names.append(link if path in SECTIONS else f"`{key}`")
            defaults.append(default_of(record, field))
        shown = dict.fromkeys(filter(None, defaults))
        rows.append(f"| {', '.join(names)} | {', '.join(shown)} | {text} |")
    more = ["", MORE[name]] if name in MORE else []
    return "\n".join([*heading, *rows, *more, ""])


def test_the_reference_is_what_the_records_say(golden: Callable[[Path, str], None]) -> None:
    sections = [section(name, record) for name, record in SECTIONS.items()]
    golden(ROOT / "docs" / "scenario.md", "\n".join([INTRODUCTION, *sections]))


@pytest.mark.parametrize("record", SECTIONS.values(), ids=lambda record: record.__name__)
def test_every_key_is_explained_and_no_other(record: type[BaseModel]) -> None:
    assert explained(record).keys() == record.model_fields.keys()


def test_what_is_shown_as_a_default_can_be_written() -> None:
    """The defaults of the reference, read as a file, are the scenario without them."""
    file: dict[str, dict[str, object]] = {"sweep": {"concurrency": 1}}
    for name, record in SECTIONS.items():
        if name and "." not in name:
            shown = {key: default_of(record, key) for key in record.model_fields}
            file.setdefault(name, {}).update(
                {
                    written_as(record, key): yaml.safe_load(default.strip("`"))
                    for key, default in shown.items()
                    if default
                }
            )
    written, bare = (
        parse_scenario(yaml.safe_dump(each), name="same", where="same.yaml")
        for each in (file, {"sweep": {"concurrency": 1}})
    )
    assert sum(map(len, file.values())) > 20
    assert written == bare
