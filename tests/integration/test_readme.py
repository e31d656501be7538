"""Every command that the README shows works, in the order in which it shows them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.scenario import parse_scenario

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What make would do is done by the tests around this one: here it only has to know the target. A run of
# seconds on a busy machine may end without a valid point, and with 4.
PRELUDE = f"""
set -euo pipefail
make() {{ command make --dry-run --directory '{ROOT}' "$@" >/dev/null; }}
harness() {{ command harness "$@" || [[ $1 == run && $? == 4 ]]; }}
"""


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A clone's scenarios, with a quickstart that takes seconds."""
    shutil.copytree(ROOT / "scenarios", tmp_path / "scenarios")
    quickstart = tmp_path / "scenarios" / "quickstart.yaml"
    scenario = yaml.safe_load(quickstart.read_text(encoding="utf-8"))
    scenario["sweep"] |= {"instances": 1, "dynamic_batching": None, "concurrency": [1, 4]}
    scenario["measure"] = {"window": "400ms", "passes": 3}
    quickstart.write_text(yaml.safe_dump(scenario), encoding="utf-8")
    return tmp_path


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_command_works(workplace: Path) -> None:
    script = workplace / "tour.sh"
    script.write_text(PRELUDE + "\n".join(blocks("sh")), encoding="utf-8")
    bin_folder = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", script],
        check=False,
        capture_output=True,
        text=True,
        cwd=workplace,
        env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"},
        timeout=840,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (run,) = (workplace / "reports").iterdir()
    pages = [line for line in done.stdout.splitlines() if line.endswith("index.html")]
    assert pages, done.stdout
    assert {workplace / page for page in pages} == {run / "index.html"}
    assert (run / "index.html").is_file()


def test_the_scenario_shown_is_the_quickstart() -> None:
    (shown,) = blocks("yaml")
    real = (ROOT / "scenarios" / "quickstart.yaml").read_text(encoding="utf-8")
    assert parse_scenario(shown, name="x", where="README.md") == parse_scenario(
        real, name="x", where="quickstart.yaml"
    )
