r"""An open loop by hand: requests are due at scheduled times, whatever became of the others.

    locust -f scenarios/open_loop.py --host http://127.0.0.1:8000 --headless \
        --rate 200 --arrivals poisson --users 64 --spawn-rate 64 --run-time 30s --run-dir reports/open
    harness report reports/open

The users are the cap on requests in flight. Latency counts from the moment a request was due. The other
options are those of closed_loop.py.
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.load.byhand.users import OpenLoopUser, above_zero, install, open_loop

install("open_loop", open_loop)


@events.init_command_line_parser.add_listener
def add_rate(parser: Any) -> None:  # noqa: ANN401 - Locust's own parser
    """Add the rate to Locust's command line."""
    parser.add_argument("--rate", type=above_zero, default=100.0, help="requests per second [100]")
    parser.add_argument(
        "--arrivals", choices=["poisson", "constant"], default="poisson", help="[poisson]"
    )


class TritonUser(OpenLoopUser):
    """A user of a model."""
