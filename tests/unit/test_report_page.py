"""The page: read strictly, compared with a golden text, and made from runs of every kind."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from harness.analysis import analyse
from harness.analysis.ranking import rank
from harness.analysis.verdicts import Verdict
from harness.point import Point, Workload
from harness.records import Calibration, CalibrationRow, Outcome
from harness.report import courses, heatmap, sections
from harness.report import page as whole_page
from harness.report.cast import cast_of
from harness.report.method import method
from harness.report.nothing import nothing_measured
from harness.report.page import render_page
from harness.report.rows import MOST_ROWS, open_rows
from tests.pages import Page, refuse_loose_ends, refuse_outside, refuse_unlike_policy
from tests.runs import with_outcome, with_record, write_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.analysis.results import Analysis
    from tests.runs import Measured

GOLDEN = Path(__file__).parents[1] / "data" / "report"
MIXED = """
model: cnn
sweep:
  instances: [1, 2]
  dynamic_batching: [null, {max_queue_delay_us: 500}]
  protocol: [http, grpc]
  concurrency: [1, 4, 16]
  rate: [400]
measure: {window: 500ms, passes: 3}
slo: {p99: 30ms, errors: 0}
"""
ONE = """
model: cnn
sweep: {concurrency: [4]}
measure: {window: 600ms, passes: 3}
"""
HOSTILE = "</style></title><script>alert(1)</script>{{ 7 * 7 }}\"'$x_1$<img src=http://x>"


def faults(measured: Measured) -> Measured:
    """Trials that failed, wrong answers and timeouts, each in one place."""
    point = measured.record.point
    batched = point.configuration.dynamic_batching is not None
    if point.configuration.instances == 2 and point.workload.protocol == "http" and not batched:
        return with_record(
            measured,
            failure="the server did not load the model: no room",
            window_start_ns=None,
            window_end_ns=None,
            statistics=None,
        )
    if point.key == "cnn-i2-d500-grpc-b1-c16":
        return with_outcome(measured, Outcome.WRONG_ANSWER, 0.02)
    if point.key == "cnn-i1-nodyn-grpc-b1-c4":
        return with_outcome(measured, Outcome.TIMEOUT, 0.01)
    return measured


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(write_run(tmp_path_factory.mktemp("mixed"), MIXED, name="mixed", alter=faults))


@pytest.fixture(scope="module")
def html(mixed: Analysis) -> str:
    return render_page(mixed)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(write_run(tmp_path_factory.mktemp("one"), ONE, name="one"))


def with_run(analysis: Analysis, **changes: Any) -> Analysis:
    return replace(analysis, record=analysis.record.model_copy(update=changes))


def many(analysis: Analysis, points: int) -> Analysis:
    """The same measurements under ever more configurations and workloads."""
    results = []
    for place in range(points):
        original = analysis.results[place % len(analysis.results)]
        turn = place // len(analysis.results)
        configuration = original.point.configuration.model_copy(
            update={"instances": turn // 10 + 1}
        )
        workload = Workload(batch_size=turn % 10 + 1)
        point = Point(configuration=configuration, workload=workload, load=original.point.load)
        results.append(replace(original, point=point))
    return replace(
        analysis, results=tuple(results), workloads=rank(results, analysis.slo), drift=None
    )


def check(text: str) -> Page:
    page = Page(text)
    assert not page.problems
    refuse_outside(page)
    refuse_loose_ends(page)
    refuse_unlike_policy(page)
    return page


def test_the_page_is_well_formed_and_asks_for_nothing(html: str) -> None:
    page = check(html)
    assert len(page.all("svg")) > 20
    assert all("scope" in header.attributes for header in page.all("th"))
    assert [
        element.attributes["name"] for element in page.all("meta") if "name" in element.attributes
    ]


def test_the_text_of_the_page(html: str, golden: Callable[[Path, str], None]) -> None:
    golden(GOLDEN / "mixed.txt", "\n".join(Page(html).lines) + "\n")


def test_the_same_run_is_the_same_page(mixed: Analysis, html: str) -> None:
    assert render_page(mixed) == html


def test_a_valid_page_says_what_broke_and_was_repeated(tmp_path: Path) -> None:
    def die(measured: Measured) -> Measured:
        """The first of three passes becomes a broken attempt at the second."""
        if measured.record.role == "sentinel" or measured.record.pass_index:
            return measured
        return with_record(measured, pass_index=1, failure="it died", window_end_ns=None)

    text = ONE.replace("passes: 3", "passes: 4")
    lines = Page(render_page(analyse(write_run(tmp_path, text, alter=die)))).lines
    assert "The point is valid. 1 trial broke and was repeated: it died." in lines
    assert "| 1 trial broke and was repeated: it died" in lines


def test_the_answer_comes_first(html: str) -> None:
    headings = [line for line in Page(html).lines if line in {"The answer", "Every point"}]
    assert headings == ["The answer", "Every point"]
    sections = re.findall(r'<section id="([^"]*)"', html)
    assert sections[0] == "answer"
    assert sections[-1] == "environment"


def test_the_contents_are_the_sections(html: str) -> None:
    links = re.findall(r'<a href="#([^"]*)"', html)
    assert links == re.findall(r'<section id="([^"]*)"', html)


def test_every_doubtful_point_is_drawn_hollow(mixed: Analysis, html: str) -> None:
    """In every figure with marks, a mark is hollow where its tip says doubtful, and only there."""
    rules = dict(re.findall(r"\.(f\d+)\{([^}]*)\}", html))
    figures = [ET.fromstring(text) for text in re.findall(r"<svg .*?</svg>", html, re.DOTALL)]
    seen = {"hollow": 0, "filled": 0}
    for figure in figures:
        for group in figure.iter("g"):
            marks = [use for use in group.iter("use") if "fill:" in rules[use.get("class", "")]]
            if len(group) == 0 or group[0].tag != "title" or not marks:
                continue
            hollow = "fill:var(--paper)" in rules[marks[0].get("class", "")]
            assert hollow == ("doubtful" in (group[0].text or "")), group[0].text
            seen["hollow" if hollow else "filled"] += 1
    assert seen["hollow"] > 10
    assert seen["filled"] > 10


def test_every_doubtful_point_is_doubtful_in_the_table(mixed: Analysis, html: str) -> None:
    doubtful = [result for result in mixed.results if not result.valid]
    lines = Page(html).lines
    assert sum("○ doubtful" in line for line in lines) == len(doubtful) > 5
    for result in doubtful:
        assert any(result.reasons[0] in line for line in lines), result.key


def test_a_doubtful_cell_of_a_heat_map_has_a_hollow_mark(mixed: Analysis, html: str) -> None:
    heat = html.partition('<section id="heat"')[2].partition("</section>")[0]
    wanted = sum(not result.valid and result.throughput.estimate > 0 for result in mixed.results)
    assert len(re.findall(r">○ [\d.,]+</text>", heat)) == wanted


def test_a_run_that_is_not_valid_says_so_first(mixed: Analysis, html: str) -> None:
    lines = Page(html).lines
    banner = lines.index("Do not rely on this run")
    assert lines[banner + 1].startswith("wrong answers in")
    assert banner < lines.index("The answer")
    assert "are valid" not in html


def test_a_percentile_with_too_few_samples_says_how_many_it_needs(one: Analysis) -> None:
    (result,) = one.results
    short = {
        q: replace(percentile, interval_ms=None, samples=300, needs=459)
        if q == 0.99
        else percentile
        for q, percentile in result.percentiles.items()
    }
    doubtful = replace(
        result, percentiles=short, verdict=Verdict.TOO_FEW_SAMPLES, reasons=("p99 needs 459",)
    )
    page = check(
        render_page(replace(one, results=(doubtful,), workloads=rank([doubtful], one.slo)))
    )
    text = "\n".join(page.lines)
    assert "| needs 459 |" in text
    assert "p99 at 4: needs 459 samples." in text
    assert "1 point is not drawn: no p99 can be given." in text


def test_a_remark_on_a_valid_point_is_no_doubt(one: Analysis) -> None:
    (result,) = one.results
    remarked = replace(result, reasons=("target not reached: throughput to ±4 %",))
    text = render_page(replace(one, results=(remarked,), workloads=rank([remarked], one.slo)))
    lines = check(text).lines
    assert "| Target not reached: throughput to ±4 %" in lines
    assert "Target not reached: throughput to ±4 %." in lines, "in the answer too"
    assert "doubtful" not in "\n".join(lines).replace("A doubtful one has a hollow mark", "")


def test_failures_stand_apart_with_their_own_latency(mixed: Analysis, html: str) -> None:
    (failed,) = [result for result in mixed.results if result.failures.get(Outcome.TIMEOUT)]
    count = failed.failures[Outcome.TIMEOUT]
    (row,) = [line for line in Page(html).lines if "| timed out |" in line]
    assert f"| concurrency 4 | timed out | {count} |" in row
    assert row.endswith(f"| {failed.failure_ms[Outcome.TIMEOUT]:.2f}")


def test_an_open_load_shows_what_became_of_it(mixed: Analysis, html: str) -> None:
    result = next(r for r in mixed.results if r.key == "cnn-i1-nodyn-grpc-b1-poisson400")
    assert result.arrivals is not None
    arrivals = replace(
        result.arrivals, due_rps=399.0, sent_rps=350.0, achieved_rps=340.0, unsent=37, capped=True
    )
    results = tuple(
        replace(each, arrivals=arrivals) if each is result else each for each in mixed.results
    )
    lines = check(render_page(replace(mixed, results=results))).lines
    (row,) = [line for line in lines if "| Poisson | 400 | 399 | 350 | 340 | 37 |" in line]
    assert row.startswith("| ○ gRPC, client batch 1: 1 instance, no dynamic batching |")
    assert row.endswith("| reached")
    assert "waiting to send" in lines


def test_one_point_makes_a_page(one: Analysis) -> None:
    page = check(render_page(one))
    text = "\n".join(page.lines)
    assert "The point is valid." in text
    assert "the default is the best" in text
    assert "Not proved: the generator was not measured" in text
    assert 'id="heat"' not in render_page(one)


def test_a_default_that_was_never_measured_beside_a_winner_has_no_curve(tmp_path: Path) -> None:
    """The server was lost in the default's only trial, after the winner's."""

    def lost(measured: Measured) -> Measured:
        if measured.record.point.configuration.instances == 2:
            return measured
        gone = with_record(measured, failure="gone", window_start_ns=None, window_end_ns=None)
        return replace(gone, samples=gone.samples[:0])

    text = ONE.replace("{concurrency", "{instances: [1, 2], concurrency")
    assert text != ONE
    html = render_page(analyse(write_run(tmp_path, text, alter=lost)))
    assert "2 instances, no dynamic batching" in html
    assert "the default does not qualify" in html


def test_rates_keep_their_digits(tmp_path: Path) -> None:
    text = ONE.replace("concurrency: [4]", "rate: [12.5, 62.5]").replace("600ms", "10s")
    html = render_page(analyse(write_run(tmp_path, text)))
    assert "best, at 62.5" in html
    assert "p99 at 12.5: needs" in html


def test_what_is_not_drawn_is_counted(
    mixed: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heatmap, "MOST_MAPS", 1)
    monkeypatch.setattr(sections, "MOST_MAPS", 1)
    monkeypatch.setattr(whole_page, "MOST_ROWS", 2)
    lines = check(render_page(mixed)).lines
    maps = len(heatmap.heat_maps(mixed, cast_of(mixed)))
    assert maps > 1
    assert any(line.endswith(f"The first 1 of {maps} maps are drawn.") for line in lines)
    rows = len(open_rows(mixed, cast_of(mixed)))
    assert rows > 2
    assert f"{whole_page.OPEN_LOOPS}: the first 2 of {rows} rows" in lines
    shapes = "load: [{kind: ramp, from: 50, to: 100, over: 2s}, {kind: ramp, from: 90, to: 20, over: 2s}]"
    shaped = analyse(write_run(tmp_path, ONE.replace("concurrency: [4]", shapes)))
    drawn: list[str] = []
    panel = courses._panel
    monkeypatch.setattr(courses, "_panel", lambda *given: drawn.append(given[-1]) or panel(*given))
    monkeypatch.setattr(courses, "MOST_PANELS", 1)
    monkeypatch.setattr(sections, "MOST_PANELS", 1)
    lines = check(render_page(shaped)).lines
    assert drawn == ["course-0"]
    said = "The first 1 of 2 points whose load has a shape are drawn."
    assert any(line.endswith(said) for line in lines)


def test_the_method_of_a_run_by_hand_is_its_own(one: Analysis, tmp_path: Path) -> None:
    def by_hand(analysis: Analysis) -> str:
        scenario = {key: value for key, value in analysis.record.scenario.items() if key != "sweep"}
        told = method(with_run(analysis, scenario=scenario))
        return " ".join(paragraph.text for paragraph in told)

    said = by_hand(one)
    assert "nothing was randomised" in said
    assert "random order" not in said
    assert "seed" not in said
    assert "steady by the MSER-5 rule. Then requests are counted until the level is left." in said
    shape = "load: {kind: ramp, from: 50, to: 100, over: 2s}"
    shaped = analyse(write_run(tmp_path, ONE.replace("concurrency: [4]", shape)))
    said = by_hand(shaped)
    assert "A shape is measured from its beginning, without a warm-up" in said
    assert "first rate" not in said
    assert "MSER-5" not in said
    assert "at its first rate" in " ".join(paragraph.text for paragraph in method(shaped))


@pytest.mark.long
def test_ten_thousand_points_make_a_page_that_a_browser_can_show(
    one: Analysis, mixed: Analysis
) -> None:
    sound = replace(mixed, results=tuple(r for r in mixed.results if r.passes == 3))
    text = render_page(many(sound, 10_000))
    page = check(text)
    assert len(text) < 6_000_000
    assert (
        len([row for row in page.all("tr") if "point" in row.attributes.get("class", "")])
        == MOST_ROWS
    )
    assert "Here are the first 1,000 of 10,000 points." in text
    assert "The first 8 of 10 workloads are drawn." in text
    assert len(page.all("svg")) - text.count('class="key') < 120


def test_a_run_without_a_trial_says_why(one: Analysis) -> None:
    record = one.record.model_copy(
        update={"status": "failed", "status_reason": "the port 8000 is taken"}
    )
    page = check(render_page(nothing_measured(record)))
    assert page.lines.index("Nothing was measured") + 1 == page.lines.index(
        "the port 8000 is taken"
    )
    assert "Environment" in page.lines
    assert "The answer" not in page.lines


def test_where_nothing_qualifies_the_card_says_why(mixed: Analysis) -> None:
    strict = mixed.slo.model_copy(update={"p99_s": 0.0001})
    analysis = replace(mixed, slo=strict, workloads=rank(mixed.results, strict))
    page = check(render_page(analysis))
    assert page.lines.count("No configuration qualifies") == 2
    assert any("no level meets the SLO" in line for line in page.lines)
    assert not page.all("button")


def test_a_tie_with_the_default_is_called_one(mixed: Analysis) -> None:
    workload = mixed.workloads[0]
    assert workload.gain is not None
    tied = replace(workload, gain=replace(workload.gain, estimate=1.01, low=0.97, high=1.05))
    page = check(
        render_page(
            replace(mixed, workloads=(replace(tied, gain_is_tie=True), *mixed.workloads[1:]))
        )
    )
    place = page.lines.index("Against the default")
    assert page.lines[place + 1] == "tie"
    assert page.lines[place + 2].startswith("−3.0 % to +5.0 %")


def test_a_gain_has_its_interval(mixed: Analysis) -> None:
    workload = mixed.workloads[0]
    assert workload.gain is not None
    gain = replace(workload.gain, estimate=1.384, low=1.31, high=1.452)
    page = check(
        render_page(replace(mixed, workloads=(replace(workload, gain=gain), *mixed.workloads[1:])))
    )
    place = page.lines.index("Against the default")
    assert page.lines[place + 1 : place + 3] == ["+38 %", "+31 % to +45 %"]


def test_what_the_generator_can_do_stands_beside_every_point(mixed: Analysis) -> None:
    rows = tuple(
        CalibrationRow(
            protocol=protocol, batch_size=1, ceiling_users=32, ceiling_rps=10_000.0,
            client_cpu_ms=0.21, null_ms_p50=0.61, own_ms=0.33, sleep_ms=50.0, sleep_excess_ms=0.4,
            sleep_sd_ms=0.2, users=16, in_flight=in_flight,
        )
        for protocol, in_flight in (("http", 15.8), ("grpc", 9.6))
    )  # fmt: skip
    calibration = Calibration(clock_resolution_ns=1, rows=rows)
    results = tuple(replace(result, ceiling_share=0.364) for result in mixed.results)
    calibrated = replace(with_run(mixed, calibration=calibration), results=results)
    lines = check(render_page(calibrated)).lines
    assert any(
        line.startswith("| HTTP, client batch 1 |") and line.endswith("| proved") for line in lines
    )
    assert any(
        line.startswith("| gRPC, client batch 1 |") and line.endswith("| only 60 %")
        for line in lines
    )
    named = [
        row.model_copy(update={"models": models})
        for row in rows
        for models in (("cnn", "rnn"), ("x",))
    ]
    several = with_run(mixed, calibration=Calibration(clock_resolution_ns=1, rows=named))
    assert any(
        line.startswith("| cnn, rnn: HTTP, client batch 1 |")
        for line in check(render_page(several)).lines
    )
    (row,) = [line for line in lines if "recommended" in line and "2 instances" in line]
    assert "| 36 % |" in row


def test_hostile_names_are_only_text(mixed: Analysis) -> None:
    """Whatever stands in a run's files is shown, and never run."""

    def renamed(point: Point) -> Point:
        configuration = point.configuration.model_copy(update={"model": HOSTILE})
        return point.model_copy(update={"configuration": configuration})

    results = [
        replace(result, point=renamed(result.point), reasons=tuple(HOSTILE for _ in result.reasons))
        for result in mixed.results
    ]
    trials = tuple(
        trial.model_copy(
            update={
                "point": renamed(trial.point),
                "requested": {**trial.requested, "name": HOSTILE, HOSTILE: HOSTILE},
            }
        )
        for trial in mixed.trial_records
    )
    record = mixed.record.model_copy(
        update={
            "name": HOSTILE,
            "scenario_text": HOSTILE,
            "command": (HOSTILE,),
            "host": {HOSTILE: HOSTILE, "cpu_model": HOSTILE},
            "notes": (HOSTILE,),
        }
    )
    analysis = replace(
        mixed,
        record=record,
        results=tuple(results),
        trial_records=trials,
        workloads=rank(results, mixed.slo),
    )
    page = check(render_page(analysis))
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert not page.all("img")
    assert any("49" not in line and "{{ 7 * 7 }}" in line for line in page.lines)
    assert sum(HOSTILE in " ".join(line.split()) for line in page.lines) > 5
