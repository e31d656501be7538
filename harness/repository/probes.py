"""Probe models: the tensors of another model, and a time that is known.

They are what the instrument itself is measured with: a *null* model answers at once, a *sleeping* one
after an exact time.
"""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from harness.repository.configuration import configuration_text

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["probe_configuration", "write_probe"]


def probe_configuration(
    like: dict[str, Any], name: str, *, sleep_us: int, instances: int = 1
) -> dict[str, Any]:
    """The configuration of a probe with the tensors and the largest batch of the model ``like``.

    Args:
        like: a model configuration as JSON.
        name: of the probe.
        sleep_us: how long each execution takes, in microseconds; 0 answers at once.
        instances: how many requests it can work on at the same time.
    """
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": like.get("max_batch_size", 0),
        "input": like["input"],
        "output": like["output"],
        "instance_group": [{"count": instances, "kind": "KIND_CPU"}],
        "parameters": {"sleep_us": {"string_value": str(sleep_us)}},
    }


def write_probe(root: Path, configuration: dict[str, Any]) -> Path:
    """Write a probe's folder below ``root`` and return it."""
    folder = root / configuration["name"]
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(configuration_text(configuration), encoding="utf-8")
    source = files("harness.repository") / "backends" / "probe" / "model.py"
    with as_file(source) as model:
        shutil.copyfile(model, folder / "1" / "model.py")
    return folder
