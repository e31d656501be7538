"""How a run was measured, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.point import ClosedLoad
from harness.report.formats import THIN, number, percent, tick
from harness.report.paragraph import Paragraph
from harness.report.server_settings import server_settings

if TYPE_CHECKING:
    from harness.analysis.results import Analysis
    from harness.point import Load
    from harness.scenario import Measure

__all__ = ["Paragraph", "method"]


def method(analysis: Analysis) -> list[Paragraph]:
    """The method, a paragraph a step, with this run's own settings."""
    # A run that is sent by hand has no sweep: the levels are those that somebody let come up.
    by_hand = "sweep" not in analysis.record.scenario
    windows, passes = (_windows_by_hand, _passes_by_hand) if by_hand else (_windows, _passes)
    return [
        Paragraph("Load", _load(analysis)),
        Paragraph("Sender", SENDERS[analysis.measure.sender]),
        Paragraph("Latency", _latency(analysis)),
        Paragraph("Windows", windows(analysis)),
        Paragraph("Passes", passes(analysis)),
        Paragraph("Intervals", INTERVALS),
        Paragraph("Server times", SERVER_TIMES),
        *server_settings(analysis),
        Paragraph("Answers", ANSWERS),
        Paragraph("Choosing the best", _choice(analysis)),
        Paragraph("Verdicts", VERDICTS),
    ]


INTERVALS = (
    "Every interval is a 95 % confidence interval from the variation between passes, by Student’s t:"
    " requests within a window are not independent, and a machine changes from minute to minute, so a"
    " pass counts as one observation. Of a point with one long window, its twenty equal parts take the place"
    " of passes. An interval holds what varied while this run lasted, not what differs between one hour and"
    " another. A percentile is published only with as many samples as MLPerf"
    " LoadGen’s rule asks for (459 for a p99); otherwise the report says how many it needs."
)
SERVER_TIMES = (
    "Queue and compute times and executed batch sizes are the difference of two snapshots of Triton’s"
    " statistics at the edges of the same window. Client and network is the client’s mean latency less the"
    " server’s mean request time; what the server’s parts do not add up to is shown as the unexplained"
    " rest."
)
ANSWERS = (
    "A status of 200 is not an answer. Every response is checked for model, shape, size, finite values and"
    " the most likely class of each input; at least one in sixteen is compared in full with the exported"
    " model’s own reference. Requests that failed or were answered wrongly enter no latency and no"
    " throughput."
)
VERDICTS = (
    "Every point is judged, and none is thrown away. A doubtful one has a hollow mark (○) wherever it"
    " appears, its reasons stand in the table, and it cannot win."
)


SENDERS = {
    "raw": (
        "Locust’s users send requests that tritonclient’s own encoder prepared once, for a pool of different"
        " inputs, over kept-alive connections of their own, with as little work for each as possible."
    ),
    "tritonclient": (
        "Locust’s users send through tritonclient’s own clients, as most applications do: each request is"
        " encoded anew, which takes CPU time that the raw sender leaves to the server."
    ),
}


def _load(analysis: Analysis) -> str:
    loads = _loads(analysis)
    said = []
    if any(isinstance(load, ClosedLoad) for load in loads):
        said.append(
            "Closed loop: as many users as the concurrency says, each sending its next request as soon as"
            " it has its answer. A slow server is therefore sent less, and a stall is felt by few requests:"
            " a closed loop shows what a server can do, not what independent clients would suffer."
        )
    caps = sorted({load.max_in_flight for load in loads if not isinstance(load, ClosedLoad)})
    if caps:
        kinds = sorted({load.arrivals for load in loads if not isinstance(load, ClosedLoad)})
        named = {
            "poisson": "Poisson (exponential gaps)",
            "constant": "constant (equal gaps)",
            "replayed": "those of a file",
        }
        said.append(
            "Open loop: requests are due at scheduled times, whatever became of the others; arrivals are"
            f" {' and '.join(named[kind] for kind in kinds)}. At most"
            f" {' or '.join(number(cap) for cap in caps)} are in flight; what is due beyond that waits, and"
            " its waiting counts."
        )
    return " ".join(said) or "No load was sent."


def _latency(analysis: Analysis) -> str:
    said = "Latency is the time from the moment a request was due to its complete answer"
    if any(result.point.load.kind != "closed" for result in analysis.results):
        return f"{said} (the response time), so waiting for a late send is part of it."
    return f"{said}. In a closed loop a request is due when it is sent."


def _windows(analysis: Analysis) -> str:
    measure = analysis.measure
    loads = _loads(analysis)
    own = ""
    if any(load.kind == "shaped" for load in loads):
        own += (
            " The window of a shape covers it whole, until its last request is answered, after a warm-up at"
            " its first rate."
        )
    if any(load.kind != "shaped" and load.duration_s for load in loads):
        own += " The window of a soak is as long as its name says."
    return (
        f"Users reach the load level first. {_warmup(measure)} Then requests are counted for a window of"
        f" {_seconds(measure.window_s)}, while load goes on without draining, and a request belongs to the"
        " window in which it ended."
        f"{own} After {_seconds(measure.request_timeout_s)} a request has failed."
    )


def _windows_by_hand(analysis: Analysis) -> str:
    measure, loads = analysis.measure, _loads(analysis)
    said = ["Users reach the load level first."]
    if any(load.kind != "shaped" for load in loads):
        said.append(f"{_warmup(measure)} Then requests are counted until the level is left.")
    if any(load.kind == "shaped" for load in loads):
        said.append(
            "A shape is measured from its beginning, without a warm-up, until its last request is answered."
        )
    return (
        f"{' '.join(said)} A request belongs to the window in which it ended."
        f" After {_seconds(measure.request_timeout_s)} a request has failed."
    )


def _warmup(measure: Measure) -> str:
    return (
        f"The warm-up is left out: at least {_seconds(measure.warmup_min_s)} and at most"
        f" {_seconds(measure.warmup_max_s)}, until the latencies are steady by the MSER-5 rule."
    )


def _loads(analysis: Analysis) -> list[Load]:
    return [result.point.load for result in analysis.results]


def _counted_passes(analysis: Analysis) -> str:
    most = max((result.passes for result in analysis.results), default=0)
    fewest = min((result.passes for result in analysis.results), default=0)
    counted = f"{most}" if most == fewest else f"{fewest} to {most}"
    return f"Each point was measured in {counted} {'pass' if counted == '1' else 'passes'}."


def _passes_by_hand(analysis: Analysis) -> str:
    return (
        f"{_counted_passes(analysis)} The load was sent by hand: levels were measured in the order in which"
        " they came up, and nothing was randomised, so a drift of the machine may look like a difference"
        " between them. A level that came up again counts as another pass."
    )


def _passes(analysis: Analysis) -> str:
    measure = analysis.measure
    said = (
        f"{_counted_passes(analysis)} Every pass visits"
        " all configurations in a random order, and the levels of each in a random order"
        f" (seed {measure.seed}), so that a drift of the machine widens the intervals instead of deciding"
        " the ranking."
    )
    if measure.target:
        aims = ", ".join(f"{name} to ±{percent(aim)}" for name, aim in measure.target.items())
        longest = "" if measure.max_time_s is None else f" within {measure.max_time_s:g} s"
        said += (
            f" Points were visited up to {measure.most_passes} times{longest}, until the intervals were narrow"
            f" enough ({aims}) after two passes in a row."
        )
    if analysis.drift is None:
        said += " No sentinel was measured at the start, in the middle and at the end, so drift was not watched."
    return said


def _choice(analysis: Analysis) -> str:
    objective = analysis.workloads[0].objective if analysis.workloads else ""
    rule = f"The rule: {objective}. " if objective else ""
    return (
        f"{rule}Client batch size and protocol are the workload; configurations are compared within a"
        " workload, by ratios paired within each pass. The fastest of many was lucky, too, so their intervals"
        " allow for the choice. Those that cannot be told apart from it with 80 % confidence are tied with"
        " it; ties go to the fewest instances, then the least CPU. What is slower, but by less than 3 % as far as 99 %"
        " confidence can tell, is a near tie. The default to compare with is one instance without dynamic batching, at its own best"
        " level under the same rule."
    )


def _seconds(value: float) -> str:
    return f"{tick(value)}{THIN}s" if value >= 1 else f"{tick(value * 1e3)}{THIN}ms"
