"""The page in a real browser: on a phone, on a desk, in the dark and on paper."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from harness.records import Outcome
from harness.report import rebuild
from tests.browser import MISSING, Browser, browser
from tests.footprint import wait_until
from tests.runs import Measured, with_outcome, write_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"no {' and no '.join(MISSING)}: apt-get install chromium chromium-driver"
)

QUICK = """
model: cnn
sweep:
  instances: [1, 2]
  dynamic_batching: [null, {max_queue_delay_us: 0}, {max_queue_delay_us: 1000}]
  batch_size: [1, 8]
  concurrency: [1, 8, 32]
  rate: [200]
measure: {window: 400ms, passes: 3}
slo: {p99: 50ms, errors: 0}
"""
PHONE, DESK = 360, 1280

# Everything that reaches beyond the viewport, but what may be scrolled by itself.
OVERFLOW = """
const wide = [];
for (const element of document.querySelectorAll("body *")) {
  if (element.closest(".scroll, pre, details:not([open]) > :not(summary)")) continue;
  const box = element.getBoundingClientRect();
  if (box.width > 0 && (box.right > innerWidth + 1 || box.left < -1)) {
    wide.push(`${element.tagName} ${element.textContent.slice(0, 40)} ${box.left}-${box.right}`);
  }
}
const root = document.documentElement;
return [root.scrollWidth - root.clientWidth, wide];
"""
SMALL_TEXT = """
const sizes = [];
for (const text of document.querySelectorAll("svg text")) {
  const box = text.ownerSVGElement;
  const scale = box.getBoundingClientRect().width / box.viewBox.baseVal.width;
  sizes.push(scale * parseFloat(getComputedStyle(text).fontSize));
}
return Math.min(...sizes);
"""
# Pairs of texts of one figure that lie over each other by more than a hair.
CLASHES = """
const found = [];
for (const figure of document.querySelectorAll(".panel svg")) {
  const texts = [...figure.querySelectorAll("text")].filter((text) => text.textContent.trim());
  const boxes = texts.map((text) => text.getBoundingClientRect());
  for (let i = 0; i < boxes.length; i++) {
    for (let j = i + 1; j < boxes.length; j++) {
      const across = Math.min(boxes[i].right, boxes[j].right) - Math.max(boxes[i].left, boxes[j].left);
      const down = Math.min(boxes[i].bottom, boxes[j].bottom) - Math.max(boxes[i].top, boxes[j].top);
      if (across > 3 && down > 5) found.push(`${texts[i].textContent} / ${texts[j].textContent}`);
    }
  }
}
return found;
"""
COLUMN = """
const [table, column] = arguments;
const bodies = document.querySelectorAll("table.sortable")[table].tBodies;
return [...bodies].map((body) => body.rows[0].cells[column].dataset.order);
"""


def wrong(measured: Measured) -> Measured:
    """One point with wrong answers, so that there is something doubtful to show."""
    doubtful = measured.record.point.key == "cnn-i2-d0-http-b1-c8"
    return with_outcome(measured, Outcome.WRONG_ANSWER, 0.05) if doubtful else measured


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("run"), QUICK, name="quick", alter=wrong)
    return rebuild(run)[1]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as window:
        yield window


@pytest.fixture
def shown(chromium: Browser, page: Path) -> Browser:
    """The page, just loaded, on a desk."""
    chromium.devtools("Emulation.setEmulatedMedia", media="", features=[])
    chromium.resize(DESK)
    chromium.open(page)
    return chromium


@pytest.mark.parametrize("width", [320, PHONE, 768, DESK, 1920])
def test_nothing_reaches_beyond_the_screen(shown: Browser, width: int) -> None:
    shown.resize(width)
    assert shown.run("return innerWidth") == width
    assert shown.run(OVERFLOW) == [0, []]


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_figures_can_be_read(shown: Browser, width: int) -> None:
    shown.resize(width)
    assert shown.run(SMALL_TEXT) >= 7.5


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_browser_has_nothing_to_complain_of(shown: Browser, page: Path, width: int) -> None:
    shown.resize(width)
    shown.complaints()
    shown.open(page)
    shown.run("for (const button of document.querySelectorAll('button')) button.click()")
    assert shown.complaints() == []


def test_the_policy_is_in_force(shown: Browser) -> None:
    """A style or script that is not the page's own does nothing, and the browser says so."""
    shown.complaints()
    before = "const p = document.createElement('p'); document.body.append(p);"
    shown.run(before + "p.setAttribute('style', 'color: red')")
    shown.run("const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
              "document.body.append(s)")  # fmt: skip
    assert shown.run("return window.ran ?? null") is None
    said: list[str] = []
    wait_until(
        lambda: (
            said.extend(shown.complaints())
            or sum("Content Security Policy" in one for one in said) >= 2
        )
    )


def test_names_in_figures_do_not_lie_over_each_other(shown: Browser) -> None:
    """The names of load levels are drawn beside marks and may touch; nothing else does."""
    clashes = [pair for pair in shown.run(CLASHES) if not re.fullmatch(r"[\d,]+ / .*", pair)]
    assert clashes == []


def test_a_table_is_sorted_by_a_column(shown: Browser) -> None:
    click = (
        "document.querySelectorAll('table.sortable')[0].tHead.querySelectorAll('button')[2].click()"
    )
    before = [float(value) for value in shown.run(COLUMN, 0, 2)]
    shown.run(click)
    once = [float(value) for value in shown.run(COLUMN, 0, 2)]
    shown.run(click)
    twice = [float(value) for value in shown.run(COLUMN, 0, 2)]
    assert before != once == sorted(before)
    assert twice == sorted(before, reverse=True)
    sorted_by = "return [...document.querySelectorAll('[aria-sort]')].map((h) => h.ariaSort)"
    assert shown.run(sorted_by) == ["descending"]
    reasons = shown.run(
        "return [...document.querySelectorAll('tr.reasons')].map("
        "(row) => row.previousElementSibling.className)"
    )
    assert reasons
    assert all("doubtful" in name for name in reasons), "reasons stay with their point"


def test_a_configuration_is_copied(shown: Browser) -> None:
    origin = "return document.querySelector('[data-copy]').dataset.copy"
    shown.devtools("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    said = shown.run(
        "const button = document.querySelector('[data-copy]');"
        "return new Promise((done) => {"
        "  new MutationObserver(() => done(button.textContent)).observe(button, {childList: true});"
        "  button.click();"
        "})"
    )
    assert said in {"Copied", "Selected"}
    wanted = shown.run(
        "return document.getElementById(arguments[0]).textContent", shown.run(origin)
    )
    held = (
        shown.run("return navigator.clipboard.readText()")
        if said == "Copied"
        else shown.run("return getSelection().toString()")
    )
    assert held.split() == wanted.split()
    assert "instance_group {" in held


def test_without_a_script_there_is_no_dead_button(page: Path, chromium: Browser) -> None:
    chromium.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(page)
        tree = chromium.devtools("DOM.getDocument", depth=-1)
    finally:
        chromium.devtools("Emulation.setScriptExecutionDisabled", value=False)
    buttons = list(nodes(tree["root"], "BUTTON"))
    assert buttons
    assert all("hidden" in button["attributes"] for button in buttons)


def nodes(node: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    if node["nodeName"] == name:
        yield node
    for child in node.get("children", []):
        yield from nodes(child, name)


def test_a_dark_screen_gets_a_dark_page(shown: Browser) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    assert shown.run(colour) == "rgb(255, 255, 255)"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    shown.devtools("Emulation.setEmulatedMedia", media="", features=dark)
    channels = [int(value) for value in re.findall(r"\d+", shown.run(colour))]
    assert max(channels) < 40
    shown.devtools("Emulation.setEmulatedMedia", media="print", features=dark)
    assert shown.run(colour) == "rgb(255, 255, 255)", "paper is white"


def test_it_can_be_printed(shown: Browser) -> None:
    document = shown.pdf()
    assert document.startswith(b"%PDF-")
    pages = int(re.findall(rb"/Type /Pages.*?/Count (\d+)", document, re.DOTALL)[0])
    assert 4 <= pages <= 20
    assert len(zlib.compress(document)) > 20_000


def test_paper_holds_the_whole_width(shown: Browser) -> None:
    """At the width of A4 within its margins, nothing is cut off, the tables included."""
    shown.devtools("Emulation.setEmulatedMedia", media="print", features=[])
    shown.resize(718)
    useless = "return [...document.querySelectorAll('nav, button[data-copy]')].map("
    assert set(shown.run(f"{useless}(e) => getComputedStyle(e).display)")) == {"none"}
    assert (
        shown.run(
            "const root = document.documentElement; return root.scrollWidth - root.clientWidth"
        )
        <= 0
    )
    tables = (
        "return [...document.querySelectorAll('table')].map((t) => t.getBoundingClientRect().right)"
    )
    assert all(right <= 719 for right in shown.run(tables))
