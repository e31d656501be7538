"""The page: one HTML file that holds everything it needs and asks for nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.analysis.broken import repetitions
from harness.report.answers import answers, recommended
from harness.report.breakdown import part_names
from harness.report.cast import cast_of
from harness.report.environment import environment
from harness.report.formats import number
from harness.report.instrument import INSTRUMENT_COLUMNS, instrument_lead, instrument_rows
from harness.report.method import method
from harness.report.rows import (
    FAILURE_COLUMNS,
    MOST_ROWS,
    OPEN_COLUMNS,
    failure_rows,
    open_rows,
    point_columns,
    point_rows,
)
from harness.report.sections import drift_section, figure_sections, resource_section
from harness.report.svg import StyleSheet

if TYPE_CHECKING:
    from harness.analysis.results import Analysis
    from harness.report.cast import Cast
    from harness.report.sections import Section

__all__ = ["render_page"]

HERE = Path(__file__).parent
MOST_ANSWERS = 24
FAILURES = "Failures, which enter no latency and no throughput above"
OPEN_LOOPS = "Open loops: what was offered, and what became of it"

# The outlines of the marks in the order of style.MARKS, on a field of 12 by 12; first, that of the rest.
MARKS = (
    "M6 1.6a4.4 4.4 0 1 0 .01 0z",
    "M6 .8a5.2 5.2 0 1 0 .01 0z",
    "M1.2 1.2h9.6v9.6h-9.6z",
    "M6 .6 11.4 11H.6z",
    "M6 .2 11.8 6 6 11.8.2 6z",
    "M6 11.4 .6 1h10.8z",
    "M4.2.6h3.6v3.6h3.6v3.6H7.8v3.6H4.2V7.8H.6V4.2h3.6z",
    "M3.2.6 6 3.4 8.8.6l2.6 2.6L8.6 6l2.8 2.8-2.6 2.6L6 8.6l-2.8 2.8L.6 8.8 3.4 6 .6 3.2z",
)


def render_page(analysis: Analysis) -> str:
    """The report of a run as HTML. The same analysis gives the same text."""
    cast, sheet = cast_of(analysis), StyleSheet()
    sections, drift = figure_sections(analysis, cast, sheet), drift_section(analysis, sheet)
    resources = resource_section(analysis, sheet)
    rows = point_rows(analysis, cast)
    css = (HERE / "page.css").read_text(encoding="utf-8") + sheet.text()
    js = (HERE / "page.js").read_text(encoding="utf-8")
    told = answers(analysis, cast)
    failures, opened = failure_rows(analysis, cast), open_rows(analysis, cast)
    values: dict[str, Any] = {
        **_head(analysis),
        "answers": told[:MOST_ANSWERS],
        "more_answers": _more(len(told) - MOST_ANSWERS),
        "recommended": recommended(analysis, cast),
        "sections": sections,
        "legend": _legend(cast),
        "has_rest": len(cast.names) > sum(map(len, cast.members.values())),
        "has_doubtful": any(not result.valid for result in analysis.results),
        "parts": part_names(analysis),
        "marks": MARKS,
        "tables": [
            (title, list(group)) for title, group in groupby(rows, key=lambda row: row.workload)
        ],
        "columns": point_columns(analysis),
        "table_lead": _table_lead(len(analysis.results)),
        "failure_rows": failures[:MOST_ROWS],
        "failure_caption": _caption(FAILURES, len(failures)),
        "failure_columns": FAILURE_COLUMNS,
        "open_rows": opened[:MOST_ROWS],
        "open_caption": _caption(OPEN_LOOPS, len(opened)),
        "open_columns": OPEN_COLUMNS,
        "method": method(analysis) if analysis.results else [],
        "drift": drift,
        "resources": resources,
        "instrument_lead": instrument_lead(analysis.record) if analysis.results else "",
        "instrument_columns": INSTRUMENT_COLUMNS,
        "instrument_rows": instrument_rows(analysis.record),
        "environment": environment(analysis.record),
        "contents": _contents(analysis, [*sections, drift, resources]),
        "policy": _policy(css, js),
        "css": Markup(css),  # noqa: S704 - our own text, and numbers and colours of figures
        "js": Markup(js),  # noqa: S704 - our own text
    }
    environment_ = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment_.get_template("page.html.j2").render(values).lstrip()


def _head(analysis: Analysis) -> dict[str, Any]:
    """What stands above the answer."""
    record, results = analysis.record, analysis.results
    *some, last = dict.fromkeys(result.model for result in analysis.workloads) or ("",)
    models = f"{', '.join(some)} and {last}" if some else last
    valid = sum(result.valid for result in results)
    if valid == len(results):
        counted = f"All {number(valid)} points are valid." if valid > 1 else "The point is valid."
    else:
        kinds = Counter(str(result.verdict) for result in results if not result.valid)
        counted = (
            f"{number(valid)} of {number(len(results))} points are valid; doubtful: "
            + ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
        )
    counted += "".join(f" {said}." for said in repetitions(analysis.trial_records))
    server = " ".join(
        str(record.server[key]) for key in ("kind", "version") if record.server.get(key)
    )
    # Of servers that are not Triton's the name is said; ours say none, and are.
    name = str(record.server.get("name") or "triton")
    product = "Triton" if name == "triton" else name
    cores = record.host.get("cores")
    host = [
        record.host.get("cpu_model"),
        _counted(cores, "core") if isinstance(cores, int) else None,
    ]
    parts = [
        f"{models or 'No model'} on {product} ({server})" if server else models,
        f"{_counted(len(results), 'point')}, {_counted(len(analysis.trial_records), 'trial')}",
        ", ".join(str(part) for part in host if part),
        f"{record.created_utc:%-d %B %Y, %H:%M} UTC",
    ]
    objective = analysis.workloads[0].objective if analysis.workloads else ""
    return {
        "record": record,
        "models": models or "a model",
        "lede": " · ".join(part for part in parts if part),
        "counted": counted,
        "verdict": analysis.verdict,
        "banner": _banner(analysis),
        "reasons": analysis.verdict.reasons or (analysis.verdict.text,),
        "objective": f"{objective[:1].upper()}{objective[1:]}." if objective else "",
    }


def _banner(analysis: Analysis) -> str:
    """What a reader must know before anything else, where a run is not valid."""
    if not analysis.results:
        return "Nothing was measured"
    return "Do not rely on this run" if analysis.exit_code else "Read this answer with care"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _legend(cast: Cast) -> dict[str, list[dict[str, Any]]]:
    return {
        model: [
            {
                "place": member.place,
                "name": cast.name(member.configuration),
                "is_default": member.is_default,
            }
            for member in members
        ]
        for model, members in cast.members.items()
    }


def _more(count: int) -> str:
    return f"{count:,} more workloads are in summary.json." if count > 0 else ""


def _table_lead(points: int) -> str:
    said = "Small print is the 95 % interval. The same and more, for machines, is in summary.csv."
    if points > MOST_ROWS:
        said += f" Here are the first {MOST_ROWS:,} of {points:,} points."
    return said


def _caption(said: str, rows: int) -> str:
    """A table's caption, which says so where not all of its rows are here."""
    return f"{said}: the first {MOST_ROWS:,} of {rows:,} rows" if rows > MOST_ROWS else said


def _contents(analysis: Analysis, sections: list[Section]) -> list[tuple[str, str]]:
    """Anchors and titles of what is on the page, in its order."""
    shown = {section.id: section.short for section in sections if section.panels or section.tables}
    last = [(id_, shown.pop(id_)) for id_ in ("drift", "resources") if id_ in shown]
    measured = bool(analysis.results)
    return [
        *([("answer", "Answer")] if analysis.workloads else []),
        *shown.items(),
        *(
            [("points", "Points"), ("method", "Method"), ("instrument", "Instrument")]
            if measured
            else []
        ),
        *last,
        ("environment", "Environment"),
    ]


def _policy(css: str, js: str) -> str:
    """What the page may do: show its own style and run its own script, and nothing else."""
    return (
        f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(js)}; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
