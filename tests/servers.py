"""Embedded servers for tests, in a home and a temporary folder of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.servers.embedded.environment import environments, find_environment

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def make_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a temporary folder of the test's own, with the environments that are installed."""
    find_environment()
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir()
    temporary.mkdir()
    for installed in environments():
        (home / installed.name).symlink_to(installed)
    monkeypatch.setenv("TRITON_HARNESS_HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    return home
