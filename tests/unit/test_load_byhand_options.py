"""The command line of a load by hand, as Locust parses it, in a process of its own: Locust patches its process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PARSE = """
import json, sys
import locust
from locust.argument_parser import get_parser
from harness.load.byhand_options import add_options
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
