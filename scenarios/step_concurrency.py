r"""Steps through a list of concurrencies by itself.

Each of them is a load level of its own.

    locust -f scenarios/step_concurrency.py --host http://127.0.0.1:8000 --headless \
        --steps 1,2,4,8,16,32 --step-time 10 --run-dir reports/steps
    harness report reports/steps

The other options are those of closed_loop.py.
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.load.byhand.users import (
    ClosedLoopUser,
    Shape,
    above_zero,
    counts_from_1,
    install,
    stepped,
)

install("step_concurrency", stepped)


@events.init_command_line_parser.add_listener
def add_steps(parser: Any) -> None:  # noqa: ANN401 - Locust's own parser
    """Add the steps to Locust's command line."""
    parser.add_argument(
        "--steps", type=counts_from_1, default="1,2,4,8,16,32", help="concurrencies [1,2,4,8,16,32]"
    )
    parser.add_argument(
        "--step-time", type=above_zero, default=10.0, help="seconds of each step [10]"
    )


class TritonUser(ClosedLoopUser):
    """A user of a model."""


class Steps(Shape):
    """The concurrencies, one after the other."""

    def tick(self) -> tuple[int, float] | None:
        """The number of users wanted now, and how many to start a second; ``None`` at the end."""
        if not self.ready():
            return None
        options = self.hand.options
        step = int(self.get_run_time() / options.step_time)
        return (options.steps[step], 100) if step < len(options.steps) else None
