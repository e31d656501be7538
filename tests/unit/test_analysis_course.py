"""Loads with a shape, analysed: held against what was due, and cut into slices of their time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.analysis import analyse
from harness.analysis.verdicts import Verdict
from harness.report import write_report
from harness.report.summary import summary
from tests.queueing import Machine
from tests.runs import write_run

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = """
model: cnn
sweep:
  load: {{kind: {shape}, arrivals: constant}}
  max_in_flight: 1000
measure: {{window: 1s, passes: 4, seed: 7}}
"""
RAMP = SHAPE.format(shape="ramp, from: 20, to: 380, over: 4s")
SPIKE = SHAPE.format(shape="spike, base: 60, peak: 1500, at: 1s, for: 500ms, over: 4s")
STEADY = "model: cnn\nsweep: {rate: [200], arrivals: constant}\nmeasure: {window: 4s, passes: 4}\n"


def test_a_ramp_that_is_answered_is_valid_and_follows_its_rate(tmp_path: Path) -> None:
    run = write_run(tmp_path, RAMP, machine=Machine(drift=0.0))
    (result,) = analyse(run).results
    assert result.verdict is Verdict.VALID, result.reasons
    assert result.arrivals is not None
    assert result.arrivals.offered_rps == pytest.approx(200)
    assert result.arrivals.due_rps == pytest.approx(200, rel=0.01)
    assert result.arrivals.achieved_rps == pytest.approx(200, rel=0.02)
    middle = np.array([(part.start_s + part.end_s) / 2 for part in result.course])
    whole = [part.end_s <= 4 for part in result.course]
    for name in ("offered_rps", "sent_rps", "achieved_rps"):
        values = np.array([getattr(part, name) for part in result.course])
        np.testing.assert_allclose(values[whole], (20 + 90 * middle)[whole], rtol=0.1, atol=8)
    page = write_report(run, analyse(run)).read_text()
    assert "Loads with a shape, over time" in page
    assert "ramp20-380-4s-constant" in page


def test_a_spike_that_is_too_much_is_seen_where_it_was(tmp_path: Path) -> None:
    """1,500/s for half a second at 800/s: 350 are left over, which take about half a second more."""
    machine = Machine(drift=0.0, noise=0.0)
    (result,) = analyse(write_run(tmp_path, SPIKE, machine=machine)).results
    slow = [part for part in result.course if part.slowest_ms > 100]
    assert slow[0].start_s >= 0.9
    assert slow[-1].end_s <= 2.6
    capacity = 1e3 / machine.execution_ms(1)
    peak = max(part.achieved_rps for part in result.course)
    assert peak == pytest.approx(capacity, rel=0.05)
    assert max(part.offered_rps for part in result.course) == pytest.approx(1500)


def test_slices_end_where_a_burst_does(tmp_path: Path) -> None:
    text = SHAPE.format(shape="burst, rate: 100, on: 300ms, off: 700ms, for: 3s")
    (result,) = analyse(write_run(tmp_path, text)).results
    offered = [part.offered_rps for part in result.course if part.end_s <= 3]
    assert set(offered) == {0.0, 100.0}
    on = [part for part in result.course if part.offered_rps]
    assert sum(part.end_s - part.start_s for part in on) == pytest.approx(0.9)
    assert result.course[-1].end_s >= 3


def test_a_shape_that_is_not_answered_is_overloaded(tmp_path: Path) -> None:
    text = SHAPE.format(shape="ramp, from: 800, to: 1600, over: 2s")
    (result,) = analyse(write_run(tmp_path, text)).results
    assert result.verdict is Verdict.UNSTEADY
    assert any("overloaded" in reason for reason in result.reasons)


def test_response_times_of_a_slice_carry_the_variation_between_the_passes(tmp_path: Path) -> None:
    text = SHAPE.format(shape="ramp, from: 400, to: 600, over: 20s")
    run = write_run(tmp_path / "several", text, machine=Machine(drift=0.1))
    course = analyse(run).results[0].course
    known = [p for part in course for p in (part.p50_ms, part.p99_ms) if p.estimate > 0]
    assert len(known) > len(course)
    assert all(p.low < p.estimate < p.high for p in known)
    published = summary(analyse(run))["points"][0]["course"][0]["p50_ms"]
    assert published["low"] < published["estimate"] < published["high"]


def test_response_times_of_one_pass_have_no_bounds_and_the_report_says_so(tmp_path: Path) -> None:
    text = SHAPE.format(shape="ramp, from: 400, to: 600, over: 20s").replace(
        "passes: 4", "passes: 1"
    )
    run = write_run(tmp_path, text)
    course = analyse(run).results[0].course
    assert any(part.p50_ms.estimate > 0 for part in course)
    assert all(math.isnan(part.p50_ms.low) for part in course)
    page = write_report(run, analyse(run)).read_text()
    assert "Response times are those of one pass, and so without intervals." in page


def test_a_steady_load_has_no_course(tmp_path: Path) -> None:
    (result,) = analyse(write_run(tmp_path, STEADY)).results
    assert result.course == ()
