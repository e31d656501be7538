"""Numbers for people: as many digits as they carry, with their unit, and a dash where there is none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from harness.statistics.intervals import Interval

__all__ = [
    "NONE",
    "THIN",
    "bounds",
    "byte_size",
    "duration",
    "number",
    "percent",
    "span",
    "tick",
]

NONE = "–"
THIN = "\u202f"  # narrow no-break space, between a number and its unit
MINUS = "\u2212"


def number(value: float | None, like: float | None = None) -> str:
    """Three significant digits or three decimals, whole numbers above a thousand: 0.012, 1.23, 12,345.

    Args:
        value: what to write; a dash for ``None`` and NaN. An ``int`` keeps all its digits.
        like: write as many decimals as this number would get, so that the two can stand together.
    """
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    sign = MINUS if value < 0 else ""
    if isinstance(value, int):
        return f"{sign}{abs(value):,}"
    text = f"{abs(value):,.{_places(value if like is None else like)}f}"
    return sign + text if text.strip("0.") else "0"


def _places(value: float) -> int:
    """Decimals that leave three significant digits; a thousandth of a unit is as fine as it gets."""
    if value == 0 or not math.isfinite(value):
        return 0
    rounded = abs(float(f"{value:.2e}"))  # 0.9996 is written as 1.00, not as 1.000
    return min(3, max(0, 2 - math.floor(math.log10(rounded))))


def tick(value: float) -> str:
    """A number on an axis: no zeros that say nothing."""
    text = number(float(value))
    return text.rstrip("0").rstrip(".") if "." in text else text


def bounds(interval: Interval) -> str:
    """The two ends of an interval, such as ``2,950–3,130``; a dash where there is none."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return NONE
    # A bound below zero is no claim: none of the quantities can be negative.
    return span(max(interval.low, 0.0), interval.high, interval.estimate)


def span(low: float, high: float, like: float | None = None) -> str:
    """``low–high`` with the decimals of ``like``."""
    return f"{number(low, like)}–{number(high, like)}"


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share in per cent: ``38 %``, ``+38 %``, ``0.4 %``."""
    if share is None or math.isnan(share):
        return NONE
    if math.isinf(share):
        return f"{number(share)}{THIN}%"
    value = abs(share * 100)
    text = f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"
    if value < 0.05:
        text = "0" if value == 0 else "<0.1"
    sign = MINUS if share < 0 else "+" if signed and value >= 0.05 else ""
    return f"{sign}{text}{THIN}%"


def duration(time: timedelta) -> str:
    """A length of time: ``4 min 12 s``, ``1 h 03 min``."""
    seconds = round(time.total_seconds())
    hours, rest = divmod(max(seconds, 0), 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours}{THIN}h {minutes:02d}{THIN}min"
    if minutes:
        return f"{minutes}{THIN}min {seconds:02d}{THIN}s"
    return f"{seconds}{THIN}s"


def byte_size(size: float | None) -> str:
    """A size in binary units: ``15.6 GiB``."""
    if size is None:
        return NONE
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < 1024:
            return f"{number(amount)}{THIN}{unit}"
        amount /= 1024
    return f"{number(amount)}{THIN}TiB"
