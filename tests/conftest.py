"""Options and rules that hold for every test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from xdist.remote import Producer

DRIVER = Path("/dev/nvidiactl")  # of NVIDIA
# What a test says of GPUs: those so marked are skipped here, in CI as well, and why.
SKIPPED = (
    ("no_gpu", "this machine has a GPU") if DRIVER.exists() else ("gpu", "needs an NVIDIA GPU")
)

# No test fails because the machine was busy.
settings.register_profile("harness", deadline=None)
settings.load_profile("harness")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files anew instead of comparing with them",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with the file that holds the right one, or write that file anew."""
    update = request.config.getoption("--update-golden")

    def compare(path: Path, text: str) -> None:
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path} is missing: pytest --update-golden writes it"
        assert text == path.read_text(encoding="utf-8"), "if this is right: pytest --update-golden"

    return compare


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marker, reason = SKIPPED
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


class Shares(LoadFileScheduling):
    """What goes to the same process where two run the tests: all that looks at what one kind of server leaves."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if "container" in nodeid:
            return "containers"
        if file.startswith("tests/integration/") and "/test_train" not in file:
            return "servers"
        return file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Shares:
    return Shares(config, log)


def _fail_instead(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI (``HARNESS_CI=1``) a skipped test has failed: all that it could need is there."""
    if os.environ.get("HARNESS_CI") == "1" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = (
            f"{reason} (nothing may be skipped in CI but what a GPU is for, or in the way of)"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
    report: pytest.TestReport = yield
    if not any(map(item.get_closest_marker, ("gpu", SKIPPED[0]))):
        _fail_instead(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, pytest.CollectReport]:
    report: pytest.CollectReport = yield
    _fail_instead(report)
    return report
