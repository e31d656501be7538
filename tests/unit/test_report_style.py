"""The page's colours can be told from their ground, on a light screen and on a dark one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import harness.report
from harness.report.page import MARKS as OUTLINES
from harness.report.style import HEAT, MARKS, PARTS, SERIES, placeholders

CSS = (Path(harness.report.__file__).parent / "page.css").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
)
SCHEMES = pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """Contrast ratio by WCAG 2.2: 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@SCHEMES
@pytest.mark.parametrize("ink", ["ink", "muted", "accent", "warn"])
@pytest.mark.parametrize("ground", ["paper", "tint", "warn-tint"])
def test_text_can_be_read(scheme: dict[str, str], ink: str, ground: str) -> None:
    assert contrast(scheme[ink], scheme[ground]) >= 4.5


@SCHEMES
@pytest.mark.parametrize("name", [f"s{place}" for place in range(1, len(SERIES) + 1)])
def test_lines_and_marks_can_be_seen(scheme: dict[str, str], name: str) -> None:
    assert contrast(scheme[name], scheme["paper"]) >= 3


@SCHEMES
@pytest.mark.parametrize("name", [f"p{place}" for place in range(1, len(PARTS))])
def test_bars_can_be_seen(scheme: dict[str, str], name: str) -> None:
    """The last part, the unexplained rest, is pale and has an outline instead."""
    assert contrast(scheme[name], scheme["paper"]) >= 3


@SCHEMES
@pytest.mark.parametrize("place", range(1, len(HEAT) + 1))
def test_numbers_on_a_heat_map_can_be_read(scheme: dict[str, str], place: int) -> None:
    text = scheme["on"] if place - 1 > len(HEAT) // 2 else scheme["ink"]
    assert contrast(text, scheme[f"h{place}"]) >= 4.5


@SCHEMES
def test_shades_go_one_way(scheme: dict[str, str]) -> None:
    shades = [luminance(scheme[f"h{place}"]) for place in range(1, len(HEAT) + 1)]
    assert shades in (sorted(shades), sorted(shades, reverse=True))


def test_every_colour_has_its_own_placeholder_and_variable() -> None:
    names = list(placeholders().values())
    assert len(set(names)) == len(names) == len(placeholders())
    assert set(names) <= LIGHT.keys()
    assert LIGHT.keys() == DARK.keys()


def test_every_configuration_has_a_mark_of_its_own() -> None:
    assert len(set(MARKS)) == len(MARKS) == len(SERIES)
    assert len(set(OUTLINES)) == len(OUTLINES) == len(SERIES) + 1
