"""The options of a load by hand, on Locust's command line, and the load that they ask for."""

from __future__ import annotations

import argparse
import contextlib
import math
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.point import ClosedLoad, OpenLoad, ShapedLoad
from harness.scenario import parse_scenario
from harness.units import MOST_RATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "above_zero",
    "add_options",
    "checked",
    "closed",
    "count_from_0",
    "count_from_1",
    "counts_from_1",
    "open_loop",
    "shaped",
    "stepped",
]


def above_zero(text: str) -> float:
    """An option's number above 0.

    Raises:
        ArgumentTypeError: it is none.
    """
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")


def count_from_1(text: str) -> int:
    """An option's whole number from 1 on.

    Raises:
        ArgumentTypeError: it is none.
    """
    if text.strip().isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1 on")


def counts_from_1(text: str) -> list[int]:
    """An option's list of whole numbers from 1 on, such as ``1,2,4``.

    Raises:
        ArgumentTypeError: it is none.
    """
    return [count_from_1(part) for part in text.split(",")]


def count_from_0(text: str) -> int:
    """An option's whole number from 0 on.

    Raises:
        ArgumentTypeError: it is none.
    """
    if text.strip().isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 on")


def checked(values: Iterable[tuple[str, Callable[[str], Any], object]]) -> None:
    """See that values still are what the command line would take: the web interface changes them unasked.

    Args:
        values: each with its option and what that is read with.

    Raises:
        UsageError: one of them is not.
    """
    for name, read, value in values:
        try:
            read(str(value))
        except argparse.ArgumentTypeError as error:
            raise UsageError(str(error), where=name, remedy="Mend it, and start again") from None


PRESETS = (
    ("--model", str, "cnn", "name of the model"),
    ("--batch-size", count_from_1, 1, "inferences in one request"),
    ("--request-timeout", above_zero, 30.0, "seconds after which a request has failed"),
    ("--tolerance", above_zero, 1e-4, "how far a value may lie from the reference"),
    ("--seed", count_from_0, 7, "seeds every random choice"),
)


def add_options(parser: Any) -> None:  # noqa: ANN401 - Locust's own parser
    """Add the options of every load by hand to Locust's command line.

    Its web interface lets whoever reaches it send load anywhere, and its master trusts every worker, so both
    listen on loopback unless told else.
    """
    parser.set_defaults(web_host="127.0.0.1", master_bind_host="127.0.0.1")
    # Not as a group: what stands in one is left out of the page.
    for name, kind, default, text in PRESETS:
        parser.add_argument(name, type=kind, default=default, help=f"{text} [{default}]")
    parser.add_argument("--protocol", choices=["http", "grpc"], default="http", help="[http]")
    parser.add_argument(
        "--grpc-host", default="", help="host:port of the gRPC endpoint [that of --host, port 8001]"
    )
    parser.add_argument(
        "--reference",
        default="",
        help="reference.npz of the exported model: inputs and right answers [random inputs]",
    )
    parser.add_argument(
        "--run-dir", default="", help="new folder for a run that `harness report` reads [none]"
    )


def closed(users: int, _: Any) -> ClosedLoad:  # noqa: ANN401 - Locust's parsed options
    """A closed loop of all users."""
    return ClosedLoad(concurrency=users)


def stepped(users: int, options: Any) -> ClosedLoad:  # noqa: ANN401 - Locust's parsed options
    """One of the concurrencies of ``--steps``.

    Raises:
        UsageError: one of them is none, or a step takes no time.
    """
    given = ",".join(map(str, options.steps))
    checked((("--steps", counts_from_1, given), ("--step-time", above_zero, options.step_time)))
    return ClosedLoad(concurrency=users)


def open_loop(users: int, options: Any) -> OpenLoad:  # noqa: ANN401 - Locust's parsed options
    """An open loop at the rate of the options; the users are the cap on requests in flight.

    Raises:
        UsageError: it has no rate, or there are no such arrivals.
    """
    checked((("--rate", above_zero, options.rate),))
    if options.rate > MOST_RATE:
        raise UsageError(f"expected at most {MOST_RATE:,.0f} requests a second", where="--rate")
    if options.arrivals not in ("poisson", "constant"):
        raise UsageError(
            f"{options.arrivals!r} are no arrivals", remedy="Give --arrivals poisson or constant"
        )
    return OpenLoad(rate=options.rate, arrivals=options.arrivals, max_in_flight=users)


def shaped(_: int, options: Any) -> ShapedLoad:  # noqa: ANN401 - Locust's parsed options
    """The load with a shape that ``--load`` writes in the words of a scenario.

    Raises:
        UsageError: it is none, or has no end by itself.
    """
    text = f"sweep: {{load: {options.load}}}"
    loads = parse_scenario(text, name="load", where="--load").sweep.loads
    if len(loads) != 1:
        raise UsageError(
            f"expected one load, not {len(loads)}",
            where="--load",
            remedy="Start Locust once for each",
        )
    load = loads[0]
    if load.kind == "shaped":
        return load
    if load.kind == "closed":
        what, remedy = "a closed loop is no shape", "Use closed_loop.py with --users and --run-time"
    else:
        what = "a load at one rate is no shape"
        remedy = "Use open_loop.py with --rate, --arrivals, --users and --run-time"
    raise UsageError(what, where="--load", remedy=remedy)
