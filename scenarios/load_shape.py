r"""A load with a shape by hand: a ramp, steps, a spike, bursts, or the arrival times of a file.

    locust -f scenarios/load_shape.py --host http://127.0.0.1:8000 --headless \
        --load "{kind: spike, base: 50, peak: 400, at: 3s, for: 1s, over: 8s}" --run-dir reports/spike
    harness report reports/spike

--load takes one shape as a scenario's ``sweep: {load: …}`` does; docs/load-models.md lists them. The test ends when
the shape does. Users are started by themselves, as many as ``max_in_flight`` says [256]; a file that is
replayed lies relative to the current folder. The other options are those of closed_loop.py.
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.load.byhand.users import Course, OpenLoopUser, install, shaped

install("load_shape", shaped)


@events.init_command_line_parser.add_listener
def add_load(parser: Any) -> None:  # noqa: ANN401 - Locust's own parser
    """Add the load to Locust's command line."""
    default = "{kind: ramp, from: 50, to: 200, over: 10s}"
    parser.add_argument("--load", default=default, help=f"the load, as in a scenario [{default}]")


class TritonUser(OpenLoopUser):
    """A user of a model."""


class Shape(Course):
    """Until the shape has come to its end."""
