"""A page read strictly: every element closed, every identifier once, nothing asked for from anywhere."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
BLOCKS = frozenset(
    {
        "caption",
        "dd",
        "div",
        "dt",
        "h1",
        "h2",
        "h3",
        "h4",
        "li",
        "p",
        "pre",
        "summary",
        "title",
        "tr",
    }
)
# Attributes that a browser would follow, or run.
FOLLOWED = re.compile(
    r"^(?:src|srcset|href|action|formaction|data|poster|background|xlink:href|ping)$"
)


@dataclass
class Element:
    """One start tag: its name, attributes, and the names of what it stands in, outermost first."""

    tag: str
    attributes: dict[str, str]
    within: tuple[str, ...]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """A parsed page; ``problems`` says what is not well formed.

    Attributes:
        elements: every start tag, in order.
        lines: the text that is seen, a line a block; figures, styles and scripts left out.
    """

    source: str
    elements: list[Element] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.source)
        self.close()
        self.problems += [f"<{element.tag}> is never closed" for element in self._open]
        self.lines = [line for line in (" ".join(line.split()) for line in self.lines) if line]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.problems.append(f"<{tag}> has an attribute twice")
        attributes = {name: value or "" for name, value in attrs}
        element = Element(tag, attributes, tuple(each.tag for each in self._open))
        self.elements.append(element)
        if tag in BLOCKS:
            self.lines.append("")
        elif tag in {"td", "th"}:
            self._say(" | ")
        elif tag in {"small", "span"}:
            self._say(" ")
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.problems.append(f"<{tag}/>: HTML has no self-closing elements")
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1].tag != tag:
            inside = self._open[-1].tag if self._open else "nothing"
            self.problems.append(f"</{tag}> within <{inside}>")
            return
        self._open.pop()
        if tag in BLOCKS:
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data
            if not {element.tag for element in self._open} & {"svg", "style", "script"}:
                self._say(data)

    def _say(self, text: str) -> None:
        if not self.lines:
            self.lines.append("")
        self.lines[-1] += text

    def all(self, tag: str) -> list[Element]:
        """Every element of one name."""
        return [element for element in self.elements if element.tag == tag]


def refuse_outside(page: Page) -> None:
    """Fail where the page would load, follow or run anything that is not in it."""
    for element in page.elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on"), f"<{element.tag} {name}>"
            assert name != "style", (
                f"<{element.tag}> has a style of its own, which the policy forbids"
            )
            if FOLLOWED.match(name):
                assert value.startswith("#") or value == "data:,", f"<{element.tag} {name}={value}>"
            for target in re.findall(r"url\(([^)]*)\)", value):
                assert target.startswith("#"), f"<{element.tag} {name}={value}>"
        assert element.tag not in {
            "iframe",
            "object",
            "embed",
            "base",
            "form",
            "image",
            "foreignobject",
        }
    for style in page.all("style"):
        assert "url(" not in style.text
        assert "@import" not in style.text


def refuse_loose_ends(page: Page) -> None:
    """Fail where an identifier stands twice, or a reference leads nowhere."""
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    twice = {each for each in ids if ids.count(each) > 1} if len(set(ids)) < len(ids) else set()
    assert not twice, f"these identifiers stand twice: {sorted(twice)[:5]}"
    known = set(ids)
    for element in page.elements:
        for name, value in element.attributes.items():
            if name in {"aria-labelledby", "aria-describedby"}:
                targets = value.split()
            elif name == "href" and value.startswith("#"):
                targets = [value[1:]]
            elif name == "data-copy":
                targets = [value]
            else:
                targets = re.findall(r"url\(#([^)]*)\)", value)
            for target in targets:
                assert target in known, f"<{element.tag} {name}={value}> leads nowhere"
    classes = set(re.findall(r"\.([\w-]+)", "".join(style.text for style in page.all("style"))))
    scripted = "".join(script.text for script in page.all("script"))
    for element in page.elements:
        for each in element.attributes.get("class", "").split():
            assert each in classes or each in scripted, (
                f"<{element.tag} class={each}>: no such rule"
            )


def refuse_unlike_policy(page: Page) -> None:
    """Fail where the security policy is not strict, or does not fit the page's own style and script."""
    (policy,) = (
        element.attributes["content"]
        for element in page.all("meta")
        if element.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (element,) = page.all(tag)
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
