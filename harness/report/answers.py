"""The answer, a card a workload: the best configuration, its figures, its gain, and what is doubtful."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.advice import nearly, rates_held, tie_break
from harness.analysis.results import TIE_CONFIDENCE
from harness.report.cast import level_text
from harness.report.configuration import configuration_text
from harness.report.formats import NONE, bounds, number, percent, span, tick

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.point_result import PointResult
    from harness.analysis.results import Analysis, RankedConfiguration, WorkloadResult
    from harness.point import ServerConfiguration
    from harness.report.cast import Cast
    from harness.statistics.intervals import Interval

__all__ = ["Answer", "Figure", "Recommended", "answers", "recommended"]

MOST_REASONS = 6
LARGE_GAIN = 2.0
ALMOST_ALL = 0.9995


@dataclass(frozen=True)
class Figure:
    """One number of an answer: what it is, its value with unit, and what stands in small print below."""

    name: str
    value: str
    unit: str
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What one card says.

    Attributes:
        title: the workload.
        name: the recommended configuration, or that there is none.
        place: its colour on the page, counted from 1; 0 where it has none.
        figures: throughput, p99 and gain; none without a recommendation.
        remarks: ties and the like, whole sentences.
        doubts: what speaks against the answer, whole sentences.
    """

    title: str
    name: str
    place: int
    figures: tuple[Figure, ...]
    remarks: tuple[str, ...]
    doubts: tuple[str, ...]

    @property
    def qualifies(self) -> bool:
        """Whether there is a recommendation."""
        return bool(self.figures)


@dataclass(frozen=True)
class Recommended:
    """A configuration to copy: its name, what it is best for, and the text of ``config.pbtxt``."""

    name: str
    best_for: str
    text: str


def answers(analysis: Analysis, cast: Cast) -> list[Answer]:
    """One answer a workload, in the order of the sweep."""
    return [_answer(analysis, workload, cast) for workload in analysis.workloads]


def _answer(analysis: Analysis, workload: WorkloadResult, cast: Cast) -> Answer:
    title = cast.title(workload)
    doubts = tuple(_sentence(doubt) for doubt in workload.doubtful)
    winner = workload.winner
    if winner is None or winner.best is None:
        return Answer(title, "No configuration qualifies", 0, (), _refusals(workload, cast), doubts)
    member = cast.member(winner.configuration)
    best = winner.best
    return Answer(
        title=title,
        name=cast.full_name(winner.configuration),
        place=member.place + 1 if member else 0,
        figures=(
            Figure(
                "Throughput",
                number(best.throughput.estimate),
                "inferences/s",
                (
                    _interval(best.throughput),
                    f"at {level_text(best.point)}",
                    *_goodput(analysis, best),
                ),
            ),
            _p99(analysis, best),
            _gain(workload, best),
        ),
        remarks=(*_ties(workload, cast), *map(_sentence, best.reasons)),
        doubts=doubts,
    )


def _interval(interval: Interval, unit: str = "") -> str:
    said = bounds(interval)
    return "no interval: too few passes" if said == NONE else f"{said}{unit}"


def _goodput(analysis: Analysis, best: PointResult) -> tuple[str, ...]:
    """What of the throughput came within the SLO's bound, where that is not all of it."""
    within = best.goodput.estimate / best.throughput.estimate
    if analysis.slo.p99_s is None or not within < ALMOST_ALL:
        return ()
    return (f"{number(best.goodput.estimate)} of them within {tick(analysis.slo.p99_s * 1e3)} ms",)


def _p99(analysis: Analysis, best: PointResult) -> Figure:
    p99 = best.p99_ms
    if p99 is None:
        return Figure("p99 latency", NONE, "", (f"{best.percentiles[0.99].text} samples",))
    slo: tuple[str, ...] = ()
    if analysis.slo.p99_s is not None:
        slo = (f"SLO {tick(analysis.slo.p99_s * 1e3)} ms",)
    return Figure("p99 latency", number(p99.estimate), "ms", (_interval(p99), *slo))


def _gain(workload: WorkloadResult, best: PointResult) -> Figure:
    """What the winner gains over the default, or why that cannot be said."""
    name, default, gain = "Against the default", workload.default, workload.gain
    if default is None:
        return Figure(name, NONE, "", ("the default was not measured",))
    if workload.winner and workload.winner.configuration == default.configuration:
        return Figure(name, "same", "", ("the default is the best",))
    if gain is None or default.best is None:
        return Figure(name, NONE, "", (f"the default does not qualify: {default.why_not}",))
    beside = (
        f"default: {number(default.best.throughput.estimate)} inferences/s"
        f" at {level_text(default.best.point)}"
    )
    if not workload.gain_is_tie and (held := rates_held(best, default.best)):
        of_those = f"default: {number(held[1])}, of the rates that were offered"
        return Figure(name, number(held[0]), "requests/s held", (of_those,))
    return _ratio(name, gain, beside, is_tie=workload.gain_is_tie)


def _ratio(name: str, gain: Interval, beside: str, *, is_tie: bool) -> Figure:
    low, high = (change(bound) for bound in (gain.low, gain.high))
    between = f"{low} to {high}" if math.isfinite(gain.low) else "no interval: too few passes"
    if is_tie:
        return Figure(name, "tie", "", (f"{between}, too close to tell", beside))
    if gain.estimate >= LARGE_GAIN:
        times = f"{span(gain.low, gain.high, gain.estimate)} times its throughput"
        return Figure(name, number(gain.estimate), "times", (times, beside))
    return Figure(name, change(gain.estimate), "", (between, beside))


def change(ratio: float) -> str:
    """A ratio as a change: ``+38 %``."""
    return percent(ratio - 1, signed=True)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _ties(workload: WorkloadResult, cast: Cast) -> tuple[str, ...]:
    winner, tied, near = workload.winner, workload.tie_set, workload.near_ties
    said = []
    if winner is not None and len(tied) > 1:
        others = _named([ranked for ranked in tied if ranked is not winner], cast)
        said.append(
            f"A tie with {others}: with {100 * TIE_CONFIDENCE:g} % confidence the throughputs cannot be told apart."
            f" {_sentence(tie_break(winner, tied))}"
        )
    if winner is not None and near:
        said.append(f"A near tie with {_named(near, cast)}: {nearly(len(near))}.")
    return tuple(said)


def _named(some: Sequence[RankedConfiguration], cast: Cast) -> str:
    names = [cast.name(ranked.configuration) for ranked in some]
    return "; ".join(names[:3]) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def _refusals(workload: WorkloadResult, cast: Cast) -> tuple[str, ...]:
    """Why nothing qualifies, configuration by configuration."""
    said = [
        f"{cast.name(ranked.configuration)}: {ranked.why_not}."
        for ranked in workload.ranking[:MOST_REASONS]
    ]
    more = len(workload.ranking) - MOST_REASONS
    return tuple(said) + ((f"And {more:,} more.",) if more > 0 else ())


def recommended(analysis: Analysis, cast: Cast) -> list[Recommended]:
    """Each recommended configuration once, with the workloads that it is best for."""
    found: dict[ServerConfiguration, list[WorkloadResult]] = {}
    for workload in analysis.workloads:
        if workload.winner and workload.winner.best:
            found.setdefault(workload.winner.configuration, []).append(workload)
    return [
        Recommended(
            cast.name(configuration),
            _listed([cast.title(workload) for workload in workloads]),
            configuration_text(_requested(analysis, workloads[0])),
        )
        for configuration, workloads in found.items()
    ]


def _requested(analysis: Analysis, workload: WorkloadResult) -> dict[str, object]:
    """The model configuration that the server was told when the winner was measured."""
    best = workload.winner.best if workload.winner else None
    measured = set(best.trials) if best else set()
    return next(
        (
            trial.requested
            for trial in analysis.trial_records
            if trial.index in measured and trial.requested
        ),
        {},
    )


def _listed(titles: Sequence[str]) -> str:
    if len(titles) > 3:
        return f"{titles[0]}, and {len(titles) - 1} other workloads"
    return " and ".join(titles) if len(titles) < 3 else f"{titles[0]}; {titles[1]}; and {titles[2]}"
