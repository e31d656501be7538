"""The command line of a load by hand, as Locust parses it, in a process of its own: Locust patches its process.

And what ``--load`` may say.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from harness.errors import UsageError
from harness.load.byhand.options import open_loop, shaped

PARSE = """
import json, sys
import locust
from locust.argument_parser import get_parser
from harness.load.byhand.options import add_options
locust.events.init_command_line_parser.add_listener(add_options)
print(json.dumps(get_parser(default_config_files=[]).parse_args(sys.argv[1:]).web_host))
"""


@pytest.mark.parametrize(
    ("words", "variables", "host"),
    [
        ([], {}, "127.0.0.1"),
        (["--web-host", "192.0.2.7"], {}, "192.0.2.7"),
        (["--web-host", "*"], {}, "*"),
        ([], {"LOCUST_WEB_HOST": "192.0.2.8"}, "192.0.2.8"),
    ],
)
def test_the_web_interface_is_on_loopback_unless_told_else(
    words: list[str], variables: dict[str, str], host: str
) -> None:
    others = {name: text for name, text in os.environ.items() if not name.startswith("LOCUST_")}
    done = subprocess.run(
        [sys.executable, "-c", PARSE, *words],
        env=others | variables,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == host


def test_a_rate_that_nobody_can_send_is_refused() -> None:
    with pytest.raises(UsageError, match="--rate: expected at most 1,000,000 requests a second"):
        open_loop(1, SimpleNamespace(rate=1e9, arrivals="constant"))


def test_a_shape_is_written_as_in_a_scenario() -> None:
    load = shaped(
        1, SimpleNamespace(load="{kind: ramp, from: 1, to: 2, over: 3s, max_in_flight: 4}")
    )
    assert load.key == "ramp1-2-3s-cap4"
    assert (
        shaped(1, SimpleNamespace(load="[{kind: ramp, from: 1, to: 2, over: 3s}]")).shape == "ramp"
    )


RAMP = "{kind: ramp, from: 1, to: 2, over: 3s}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[{RAMP}, {RAMP.replace('3s', '4s')}]", "--load: expected one load, not 2"),
        (f"{RAMP}, rate: 5", "--load: expected one load, not 2"),
        ("{kind: closed, concurrency: 3}", "a closed loop is no shape. Use closed_loop.py"),
        ("{kind: soak, concurrency: 3, for: 2s}", "a closed loop is no shape. Use closed_loop.py"),
        ("{kind: soak, rate: 50, for: 2s}", "a load at one rate is no shape. Use open_loop.py"),
        ("{kind: poisson, rate: 50}", "a load at one rate is no shape. Use open_loop.py"),
        ("{kind: constant, rate: 50}", "a load at one rate is no shape. Use open_loop.py"),
        ("[]", "the axis is empty"),
        ("null", "--load"),
        ("{", "--load"),
    ],
)
def test_what_is_not_one_shape_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        shaped(1, SimpleNamespace(load=text))
