"""Versions of a model side by side in one folder of the model repository."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.repository.exported import REFERENCE, open_model

if TYPE_CHECKING:
    from pathlib import Path

    from harness.repository.options import VersionPolicy

__all__ = ["carry_over", "reference_name", "served_version"]


def reference_name(version: int, served: int) -> str:
    """Name of the reference data of a version: ``reference.npz`` for the one that answers."""
    return REFERENCE if version == served else f"reference-{version}.npz"


def served_version(versions: set[int], policy: VersionPolicy | None, *, name: str) -> int:
    """Return the version that answers requests which name none: the highest that is served.

    Raises:
        UsageError: the policy names a version that there is not.
    """
    if policy is not None and policy.specific:
        missing = sorted(set(policy.specific) - versions)
        if missing:
            raise UsageError(
                f"the version policy names version {missing[0]}, and there is none",
                where=f"model {name}",
                remedy=f"There are: {', '.join(map(str, sorted(versions)))}",
            )
        return max(policy.specific)
    return max(versions)


def carry_over(
    root: Path, name: str, folder: Path, version: int, config: dict[str, Any]
) -> dict[int, dict[str, Any]]:
    """Copy the other versions of an exported model into the folder that will replace it.

    Reference data are copied as ``reference-N.npz``.

    Args:
        root: the model repository.
        name: the model's name.
        folder: the new folder, still empty.
        version: the version that is about to be written; an older one of that number is left behind.
        config: the new configuration, which all versions must fit.

    Returns:
        The record of each version that was copied, by its number.

    Raises:
        UsageError: the older export has other tensors or another backend.
    """
    if not (root / name).exists():
        return {}
    older = open_model(root, name)
    for key in ("backend", "input", "output", "max_batch_size"):
        if older.configuration.get(key) != config.get(key):
            raise UsageError(
                f"version {version} has another {key} than the versions beside it:"
                f" {config.get(key)}, not {older.configuration.get(key)}",
                where=str(older.folder),
                remedy="All versions of a model share one configuration; export it under another"
                " --name, or without --beside to replace them",
            )
    records = {
        int(number): record
        for number, record in older.record["versions"].items()
        if int(number) != version
    }
    for number in records:
        shutil.copytree(
            older.folder / str(number),
            folder / str(number),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        reference = older.folder / reference_name(number, older.record["served_version"])
        shutil.copyfile(reference, folder / f"reference-{number}.npz")
    return records
