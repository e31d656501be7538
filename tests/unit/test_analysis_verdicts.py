from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.analysis import generator, soundness, steadiness
from harness.analysis.verdicts import Verdict, percent
from harness.statistics.counts import samples_needed

PAGE = (Path(__file__).parents[2] / "docs" / "verdicts.md").read_text(encoding="utf-8")


def test_the_page_explains_every_verdict_in_the_order_of_severity() -> None:
    assert re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE) == list(Verdict)


@pytest.mark.parametrize(
    "said",
    [
        f"more than {generator.MOST_CLIENT_CORES} of the one core",
        (
            f"late by more than {generator.LAG_ALWAYS_FINE_MS:.0f} ms and by more than"
            f" {generator.MOST_LAG_OF_P99} of the latency"
        ),
        f"comes above {percent(generator.MOST_OF_CEILING)}",
        f"only to ±{percent(steadiness.MOST_HALF_WIDTH).replace(' ', '')}",
        f"more than {percent(steadiness.MOST_CHANGE_IN_WINDOW).replace(' %', ' %')} from the\nfirst",
        f"more than {steadiness.PAUSE_ALWAYS_FINE_MS:.0f} ms and ten median",
        f"than p99 needs ({samples_needed(0.99)})",
        f"differ by more than {soundness.MOST_DRIFT:.0%}".replace("%", " %"),
        *(f"{samples_needed(q):,} for p{q * 100:g}" for q in (0.9, 0.95, 0.99, 0.999)),
    ],
)
def test_the_page_says_the_thresholds_that_are_in_force(said: str) -> None:
    assert re.sub(r"\s+", " ", said).replace(" %", "%") in re.sub(r"\s+", " ", PAGE).replace(
        " %", "%"
    )


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0025, "0.25 %"), (0.0214, "2.1 %"), (0.34, "34 %"), (1.0, "100 %"), (0.0, "0 %")],
)
def test_shares_are_said_with_two_digits(share: float, said: str) -> None:
    assert percent(share) == said
    assert percent(-0.17, sign="+") == "-17 %"
