"""From a matplotlib figure to SVG that can stand inside a page with others of its kind.

What matplotlib writes is meant for a file of its own: it repeats identifiers, carries a style sheet that
would apply to the whole page, and gives every stroke its colours. Here identifiers are prefixed or left
out, styles become classes of one sheet for the page (so that the page's security policy can forbid inline
styles), colours become CSS variables, and coordinates are rounded to tenths of a unit.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from markupsafe import Markup

from harness.report.style import look, placeholders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

__all__ = ["StyleSheet", "inline_svg"]

DECIMALS = re.compile(r"-?\d+\.\d+")
PLACES = re.compile(r"#([\w.-]+)\)?$")
FONT_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
NO_ROTATION = re.compile(r"rotate\(-?0(\.0+)? [^)]*\)\s*")
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
NUMERIC = frozenset({"d", "x", "y", "transform", "width", "height"})
COLOURS = {colour: f"var(--{name})" for colour, name in placeholders().items()}


@dataclass
class StyleSheet:
    """The declarations that figures use, each a class once; filled while figures are written."""

    classes: dict[str, str] = field(default_factory=dict)

    def name(self, declarations: str) -> str:
        """The class that stands for ``declarations``."""
        return self.classes.setdefault(declarations, f"f{len(self.classes)}")

    def text(self) -> str:
        """The rules, in the order in which they were first used."""
        return "\n".join(f".{name}{{{rule}}}" for rule, name in self.classes.items())


def inline_svg(
    figure: Figure,
    sheet: StyleSheet,
    *,
    name: str,
    title: str,
    description: str,
    tips: Mapping[str, str] | None = None,
) -> Markup:
    """Write ``figure`` as an ``<svg>`` element.

    Args:
        figure: drawn within :func:`harness.report.style.look`.
        sheet: takes up the styles that the figure uses.
        name: makes its identifiers unique on the page; letters, digits and hyphens.
        title: what a screen reader calls it.
        description: what it shows, in words, for those who cannot see it.
        tips: what to show where the pointer rests on an element, by the element's gid.
    """
    buffer = io.BytesIO()
    with look(name):
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - matplotlib wrote it just now
    _drop(root, {"metadata", "style"})
    referenced = {
        place
        for element in root.iter()
        for key, value in element.attrib.items()
        if _local(key) in {"href", "clip-path"}
        for place in PLACES.findall(value)
    }
    for element in root.iter():
        _tidy(element, sheet, name, referenced)
        if tip := (tips or {}).get(element.attrib.pop("gid", "")):
            label = ET.Element("title")
            label.text = tip
            element.insert(0, label)
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-text",
    }
    for tag, role, text in (("desc", "text", description), ("title", "title", title)):
        label = ET.Element(tag, {"id": f"{name}-{role}"})
        label.text = text
        root.insert(0, label)
    text = ET.tostring(root, encoding="unicode", short_empty_elements=False)
    return Markup(text)  # noqa: S704 - serialising escaped whatever came from a run


def _local(name: str) -> str:
    """A name without its namespace: a page has no need of it."""
    return name.rpartition("}")[2]


def _drop(parent: ET.Element, tags: set[str]) -> None:
    """Remove elements with these tags, and definitions that hold nothing then."""
    for child in list(parent):
        _drop(child, tags)
        if _local(child.tag) in tags or (_local(child.tag) == "defs" and not len(child)):
            parent.remove(child)


def _tidy(element: ET.Element, sheet: StyleSheet, name: str, referenced: set[str]) -> None:
    """Rewrite one element for a page; its identifier is kept as ``gid`` for the caller."""
    element.tag = _local(element.tag)
    if element.text is not None and not element.text.strip():
        element.text = None
    element.tail = None
    kept = {}
    for key, value in element.attrib.items():
        attribute = _local(key)
        if attribute == "id" and value not in referenced:
            kept["gid"] = value
        elif attribute == "style":
            kept["class"] = sheet.name(_declarations(value))
        else:
            kept[attribute] = _value(attribute, value, name)
    element.attrib = {attribute: value for attribute, value in kept.items() if value}


def _value(attribute: str, value: str, name: str) -> str:
    """An attribute's value on the page; nothing where it says nothing."""
    if attribute == "id":
        return f"{name}-{value}"
    if attribute == "href":
        return f"#{name}-{value[1:]}"
    if attribute == "clip-path":
        return f"url(#{name}-{PLACES.findall(value)[0]})"
    if attribute in NUMERIC:
        return " ".join(NO_ROTATION.sub("", DECIMALS.sub(_rounded, value)).split())
    return value


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.1f}".removesuffix(".0").replace("-0.0", "0")


def _declarations(style: str) -> str:
    """The declarations with the page's colours, and without a font: text takes the page's."""
    for colour, variable in COLOURS.items():
        style = style.replace(colour, variable)
    return FONT_FAMILY.sub("", style).strip().rstrip(";").replace(": ", ":").replace("; ", ";")
