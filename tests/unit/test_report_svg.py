from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from harness.report.style import SERIES, bars, load_axis, log_axis, look, panel
from harness.report.svg import StyleSheet, inline_svg

HOSTILE = "</svg><script>alert('$x_1$ & \"more\"')</script>"


def draw(sheet: StyleSheet, name: str = "one", title: str = "A title") -> str:
    with look():
        figure, axes = panel()
        axes.plot([1, 2, 4], [3, 5, 8], color=SERIES[0], marker="o", gid="tip-0")
        axes.plot([1, 2, 400], [3, 5, 8], color=SERIES[1], marker="s")
        axes.set_xlim(0, 5)
        axes.annotate(title, (1, 3))
        return str(
            inline_svg(
                figure,
                sheet,
                name=name,
                title=title,
                description="In words.",
                tips={"tip-0": title},
            )
        )


def test_the_same_figure_is_the_same_text() -> None:
    assert draw(StyleSheet()) == draw(StyleSheet())


def test_two_figures_on_a_page_share_no_identifier() -> None:
    sheet = StyleSheet()
    one, two = (set(re.findall(r'id="([^"]*)"', draw(sheet, name))) for name in ("one", "two"))
    assert len(one) > 3
    assert not one & two


def test_references_lead_to_identifiers_of_the_figure() -> None:
    text = draw(StyleSheet())
    targets = set(re.findall(r'(?:href="|url\()#([^")]*)', text))
    assert targets
    assert targets <= set(re.findall(r'id="([^"]*)"', text))


def test_styles_are_classes_and_colours_are_the_pages() -> None:
    sheet = StyleSheet()
    text = draw(sheet)
    assert "style=" not in text
    assert not re.findall(r"#[0-9a-f]{6}", text + sheet.text())
    assert "var(--s1)" in sheet.text()
    assert set(re.findall(r'class="([^"]*)"', text)) == set(sheet.classes.values())


def test_it_fits_wherever_it_is_put() -> None:
    root = ET.fromstring(draw(StyleSheet()))
    assert root.get("viewBox") == "0 0 360 237.6"
    assert "width" not in root.attrib
    assert "height" not in root.attrib


def test_a_screen_reader_gets_a_title_and_the_content_in_words() -> None:
    root = ET.fromstring(draw(StyleSheet()))
    assert root.get("role") == "img"
    label, text = root.get("aria-labelledby", "").split()
    assert [(root[place].tag, root[place].get("id"), root[place].text) for place in (0, 1)] == [
        ("title", label, "A title"),
        ("desc", text, "In words."),
    ]


def test_a_point_says_what_it_is_where_the_pointer_rests() -> None:
    root = ET.fromstring(draw(StyleSheet(), title="Three users"))
    tips = [group for group in root.iter("g") if len(group) and group[0].tag == "title"]
    assert [tip[0].text for tip in tips] == ["Three users"]
    assert list(tips[0].iter("use"))


def test_hostile_text_stays_text() -> None:
    root = ET.fromstring(draw(StyleSheet(), title=HOSTILE))
    assert not list(root.iter("script"))
    assert HOSTILE in {"".join(element.itertext()) for element in root.iter("text")}


@pytest.mark.parametrize(("low", "high"), [(1.7, 2.1), (0.02, 9.0), (1.0, 1e5)])
def test_a_logarithmic_axis_has_plain_numbers(low: float, high: float) -> None:
    with look():
        _, axes = panel()
        log_axis(axes, "y", low, high)
        axes.figure.draw_without_rendering()
        labels = [
            label.get_text()
            for label, place in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
            if low <= place <= high
        ]
    assert 2 <= len(labels) <= 12
    assert all(re.fullmatch(r"[\d,.]+", label) for label in labels)


def test_an_axis_of_many_levels_names_some() -> None:
    with look():
        _, axes = panel()
        load_axis(axes, [float(2**place) for place in range(30)], "concurrency")
        assert 4 <= len(axes.get_xticks()) <= 8


def test_bars_have_room_for_their_names() -> None:
    with look():
        one, _ = bars(1, 5.0)
        eight, _ = bars(8, 5.0)
    assert eight.get_figheight() - one.get_figheight() == pytest.approx(7 * 0.52)
