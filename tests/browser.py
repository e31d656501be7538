"""A real browser for tests: headless Chromium, driven over WebDriver by the standard library alone.

Source: W3C WebDriver, https://www.w3.org/TR/webdriver2/, which chromedriver speaks on loopback.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
RESIZED_S = 10.0
ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # containers run as root, and load nothing but our own page
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Browser:
    """One window of a browser; ``session`` is the address of its WebDriver session."""

    session: str

    def open(self, page: Path) -> None:
        """Load a page from a file."""
        self._call("POST", "url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page and return what it returns."""
        return self._call("POST", "execute/sync", {"script": script, "args": arguments})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self._call("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    def resize(self, width: int, height: int = 900) -> None:
        """Make the viewport that wide, in CSS pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        deadline = time.monotonic() + RESIZED_S  # then the test shall say what it is instead
        while self.run("return innerWidth") != width and time.monotonic() < deadline:
            time.sleep(0.02)

    def complaints(self) -> list[str]:
        """What the console has said since the last call: errors, warnings, refused loads."""
        return [entry["message"] for entry in self._call("POST", "se/log", {"type": "browser"})]

    def pdf(self) -> bytes:
        """The page on A4 paper."""
        size = {"width": 21.0, "height": 29.7}
        answer = self._call("POST", "print", {"page": size, "background": True})
        return base64.b64decode(answer)

    def screenshot(self) -> bytes:
        """What is in the viewport, as PNG."""
        return base64.b64decode(self._call("GET", "screenshot"))

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return call(method, f"{self.session}/{path}", body)


def call(method: str, address: str, body: dict[str, Any] | None = None) -> Any:
    """One WebDriver command; its ``value``."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        address, data=data, method=method, headers={"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=120) as answer:
        return json.load(answer)["value"]


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser with a profile of its own; it and all it started are gone afterwards."""
    with tempfile.TemporaryDirectory(
        prefix="harness-browser-", ignore_cleanup_errors=True
    ) as profile:
        driver = subprocess.Popen(
            [shutil.which("chromedriver") or "chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            address = _address(driver)
            options = {
                "binary": shutil.which("chromium"),
                "args": [*ARGUMENTS, f"--user-data-dir={profile}"],
            }
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            answer = call("POST", f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})
            session = f"{address}/session/{answer['sessionId']}"
            try:
                yield Browser(session)
            finally:
                call("DELETE", session)
        finally:
            driver.terminate()
            driver.wait(timeout=60)
            if driver.stdout:
                driver.stdout.close()


def _address(driver: subprocess.Popen[str]) -> str:
    """Where chromedriver listens, as it says itself."""
    said = ""
    for line in driver.stdout or ():
        said += line
        if match := re.search(r"started successfully on port (\d+)", line):
            return f"http://127.0.0.1:{match[1]}"
    raise AssertionError(f"chromedriver did not start: {said}")
