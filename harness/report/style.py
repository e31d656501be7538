"""The look of every figure: colours, marks, type, and an empty panel to draw in.

A colour is drawn under a placeholder and set by the page's own style sheet, so that one figure serves a
light screen, a dark one and paper. Hues: Okabe and Ito, *Color universal design* (2008), darkened where
they fall short of a contrast of 3:1 on white; marks differ too, so that no hue has to be told apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from harness.report.formats import tick

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes

__all__ = [
    "HEAT",
    "INK",
    "LINE",
    "MARKS",
    "MUTED",
    "ON",
    "PAPER",
    "PARTS",
    "REST",
    "SERIES",
    "WARN",
    "caption",
    "load_axis",
    "log_axis",
    "look",
    "panel",
    "placeholders",
]

# A placeholder is a colour that nothing else has; the page maps it to the variable of the same name.
INK, MUTED, LINE, PAPER, REST, WARN, ON = (f"#0000{code:02x}" for code in range(1, 8))
SERIES = tuple(f"#0001{code:02x}" for code in range(1, 8))
PARTS = tuple(f"#0002{code:02x}" for code in range(1, 8))
HEAT = tuple(f"#0003{code:02x}" for code in range(1, 10))
MARKS = ("o", "s", "^", "D", "v", "P", "X")

PANEL_WIDTH_IN = 5.0
LOOK: dict[str, Any] = {
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.size": 10,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "path.simplify": True,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 10,
    "xtick.major.size": 3,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 10,
    "ytick.major.size": 0,
}


def look(salt: str = "") -> AbstractContextManager[None]:
    """Matplotlib's settings for our figures; ``salt`` makes the identifiers of one figure its own."""
    settings: dict[Any, Any] = {**LOOK, "svg.hashsalt": f"harness-{salt}"}
    return rc_context(settings)


def placeholders() -> dict[str, str]:
    """Every placeholder colour with the name of the CSS variable that replaces it."""
    named = {
        INK: "ink",
        MUTED: "muted",
        LINE: "line",
        PAPER: "paper",
        REST: "rest",
        WARN: "warn",
        ON: "on",
    }
    for letter, colours in (("s", SERIES), ("p", PARTS), ("h", HEAT)):
        named |= {colour: f"{letter}{place}" for place, colour in enumerate(colours, 1)}
    return named


def panel(
    height_in: float = 3.3, *, width_in: float = PANEL_WIDTH_IN, left_in: float = 0.62
) -> tuple[Figure, Axes]:
    """An empty panel. Call it, and draw in it, within :func:`look`.

    Margins are the same in all panels, so that those side by side line up; no layout has to be solved.
    """
    right_in, top_in, bottom_in = 0.14, 0.34, 0.52
    figure = Figure(figsize=(width_in, height_in))
    axes = figure.add_axes(
        (
            left_in / width_in,
            bottom_in / height_in,
            1 - (left_in + right_in) / width_in,
            1 - (top_in + bottom_in) / height_in,
        )
    )
    return figure, axes


def caption(axes: Axes, text: str) -> None:
    """What the y axis shows, written level above it: nobody reads sideways."""
    axes.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=(-28, 9),
        textcoords="offset points",
        color=MUTED,
    )


def log_axis(axes: Axes, which: str, low: float, high: float) -> None:
    """Make an axis logarithmic from about ``low`` to ``high``, with plain numbers at 1, 2 and 5."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    decades = high / low
    steps: Sequence[float] = (1.0, 2.0, 5.0) if decades < 3000 else (1.0,)
    if decades < 4:
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    axis.set_major_locator(LogLocator(base=10, subs=steps, numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def load_axis(axes: Axes, levels: Sequence[float], label: str) -> None:
    """A logarithmic x axis with a tick at every load level (at some of them, where there are many)."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(levels) / 1.25, max(levels) * 1.25)
    step = -(-len(levels) // 8)
    axes.xaxis.set_major_locator(FixedLocator(list(levels)[::step]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.set_xlabel(label)


def bars(rows: int, longest: float) -> tuple[Figure, Axes]:
    """An empty panel for horizontal bars, one below the other, each with its name above it."""
    row_in, top_in, bottom_in = 0.52, 0.12, 0.5
    height_in = top_in + bottom_in + row_in * rows
    figure = Figure(figsize=(PANEL_WIDTH_IN, height_in))
    axes = figure.add_axes(
        (0.01, bottom_in / height_in, 0.97, 1 - (top_in + bottom_in) / height_in)
    )
    axes.set_xlim(0, longest * 1.2)
    axes.set_ylim(-0.45, rows - 0.2)
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    return figure, axes
