"""A page about a model: its figures, tables and facts, in the looks of the serving report.

It is made from the JSON files of a folder alone, needs no script, and asks for nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.archive import whole_file
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.panels import Panel
    from harness.report.svg import StyleSheet

__all__ = ["Headline", "ModelPage", "Section", "Table", "read_json", "write_model_page"]

HERE = Path(__file__).parent
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Headline:
    """A number that stands out: what it is, its value, its unit, and a remark."""

    name: str
    value: str
    unit: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """A table: columns as (name, unit), rows of cells; the row ``best`` stands out."""

    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]
    best: int | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page: panels with their legend (place of the colour, name), and a table."""

    title: str
    lead: str
    panels: Sequence[Panel] = ()
    legend: Sequence[tuple[int, str]] = ()
    table: Table | None = None
    size: str = ""


@dataclass(frozen=True)
class ModelPage:
    """All that stands on a page; ``facts`` are pairs of a name and a text."""

    eyebrow: str
    title: str
    lede: str
    figures: Sequence[Headline]
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]]


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object of a schema that we know.

    Raises:
        UsageError: it is missing, unreadable, or of a newer schema.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "damaged"
        raise UsageError(f"not readable ({reason})", where=str(path), remedy=remedy) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int):
        raise UsageError("not one of our files", where=str(path), remedy=remedy)
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"the file has schema {version}, this harness reads up to {SCHEMA_VERSION}",
            where=str(path),
            remedy="Read it with a newer harness",
        )
    return dict(data)


def write_model_page(path: Path, page: ModelPage, sheet: StyleSheet) -> Path:
    """Write ``page`` to ``path``, whole or not at all, with the styles that its figures use.

    Raises:
        EnvironmentFailedError: it cannot be written.
    """
    css = (HERE / "page.css").read_text(encoding="utf-8") + sheet.text()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("model_page.html.j2").render(
        page=page,
        css=Markup(css),  # noqa: S704 - our own text, and numbers and colours of figures
        policy=(
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;"
            " base-uri 'none'; form-action 'none'"
        ),
        version=__version__,
    )
    with whole_file(path) as file:
        file.write_text(text, encoding="utf-8")
    return path
