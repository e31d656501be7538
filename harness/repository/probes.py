"""The probe: a model with the tensors of another, and a time that is known.

The instrument itself is measured with it: as a *null* model it answers at once, as a *sleeping* one after
an exact time. Its folder is staged as it is; what it is to imitate comes with its configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["PROBE", "probe_configuration", "probe_files", "probe_folder"]

PROBE = "harness_probe"


def probe_folder() -> Path:
    """The probe's model folder, for the repository of a run."""
    return Path(__file__).parent / "backends" / PROBE


def probe_files() -> dict[str, bytes]:
    """The probe's files as a load carries them along, for a repository that is not ours."""
    return {"file:1/model.py": (probe_folder() / "1" / "model.py").read_bytes()}


def probe_configuration(
    like: dict[str, Any], *, sleep_us: int, largest_batch: int = 1
) -> dict[str, Any]:
    """The configuration of a probe with the tensors of the model ``like``, and a batch as large at least.

    Args:
        like: a model configuration as JSON.
        sleep_us: how long each execution takes, in microseconds; 0 answers at once.
        largest_batch: the largest that is sent: a sweep may raise the model's own ``max_batch_size``.
    """
    limit = like.get("max_batch_size", 0)
    return {
        "name": PROBE,
        "backend": "python",
        "max_batch_size": max(limit, largest_batch) if limit else 0,
        "input": like["input"],
        "output": like["output"],
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
        "parameters": {"sleep_us": {"string_value": str(sleep_us)}},
    }
