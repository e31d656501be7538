"""The backend that a model is served with: the server's choice, where the model leaves one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.server_spec import LAST_WITH_TENSORFLOW
from harness.servers.staging import versions

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

__all__ = ["choose_backend", "configuration_for"]

# Both read the same parameters, so that one takes the other's place. The first is the faster one.
ONNX_RUNTIME = {"onnxruntime": "model.onnx", "python": "model.py"}


def choose_backend(exported: str, available: Collection[str], files: Collection[str]) -> str:
    """Return the backend that serves a model on a server that has the backends ``available``.

    An ONNX model is served by ``onnxruntime`` where the server has it, else by ``python`` and its
    ``model.py``, which runs the same ONNX Runtime. Any other model has its own backend and no choice.

    Args:
        exported: the backend that the model was exported for.
        available: the backends that the server has; empty where that is not known.
        files: the names of the files in its version folders.

    Raises:
        UsageError: the server has none that will do.
    """
    usable = [exported]
    if "model.onnx" in files and exported in ONNX_RUNTIME:
        usable = [backend for backend, needed in ONNX_RUNTIME.items() if needed in files]
    if not available:
        return exported
    for backend in usable:
        if backend in available:
            return backend
    remedy = "Export the model for one of them, or name another image"
    if exported == "tensorflow":
        remedy = (
            f"Name an image up to {LAST_WITH_TENSORFLOW}, the last with TensorFlow, or export the model"
            " for another backend"
        )
    raise UsageError(
        f"the server has no backend {exported}, it has {', '.join(sorted(available))}",
        remedy=remedy,
    )


def configuration_for(
    config: Mapping[str, Any], folder: Path, available: Collection[str]
) -> dict[str, Any]:
    """Return a model's configuration with the backend that a server has.

    Args:
        config: the model's configuration as JSON with the proto's names.
        folder: the model's folder, with its version folders.
        available: the backends that the server has; empty where that is not known.

    Raises:
        UsageError: the server has none that will do.
    """
    exported = config.get("backend")
    if not exported:
        return dict(config)
    files = {path.name for version in versions(folder) for path in version.iterdir()}
    return {**config, "backend": choose_backend(exported, available, files)}
