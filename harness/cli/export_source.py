"""From the options of ``harness export`` to the model and the backend that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.point import DynamicBatching, Precision
    from harness.repository.options import Backend, QueuePolicy, ServingOptions
    from harness.repository.source import Examples, Source

__all__ = [
    "backend_for",
    "batching_for",
    "check_name",
    "name_of",
    "one_source",
    "queue_policy_for",
    "read_source",
]


def backend_for(backend: Backend | None, server: str | None, image: str | None) -> Backend:
    """Return the backend that was named, or the one of where the model will be served."""
    embedded = server == "embedded" or (server is None and image is None)
    if server == "embedded" and image is not None:
        raise UsageError(
            "the embedded server is no image", remedy="Leave --image out, or --server embedded"
        )
    if server == "embedded" and backend not in (None, "python"):
        raise UsageError(
            f"the embedded server has no {backend} backend",
            remedy="Leave --backend out, or serve it with --server container",
        )
    return backend or ("python" if embedded else "onnxruntime")


def batching_for(wanted: bool, batching: DynamicBatching) -> DynamicBatching | None:
    """Return the dynamic batching that is meant, or refuse options of what is not wanted."""
    if not wanted and batching != type(batching)():
        raise UsageError(
            "--no-dynamic-batching leaves nobody to wait, prefer a batch size or keep an order",
            remedy="Leave it out, or the options of dynamic batching",
        )
    return batching if wanted else None


def queue_policy_for(
    size: int, timeout_us: int, action: Literal["reject", "delay"]
) -> QueuePolicy | None:
    """Return the queue policy that is meant, ``None`` for Triton's own."""
    from harness.repository.options import QueuePolicy

    if (size, timeout_us, action) == (0, 0, "reject"):
        return None
    return QueuePolicy(max_queue_size=size, timeout_us=timeout_us, timeout_action=action)


def one_source(
    source: Path | None, onnx: Path | None, keras: Path | None, saved_model: Path | None
) -> tuple[Path, str]:
    """Return the one model that was named and its kind; the reference network if none was."""
    given = {"source": source, "onnx": onnx, "keras": keras, "saved-model": saved_model}
    found = [(path, kind) for kind, path in given.items() if path is not None]
    if len(found) > 1:
        raise UsageError(
            "several models are given: " + ", ".join(f"--{kind}" for _, kind in found),
            remedy="Give one of them",
        )
    return found[0] if found else (Path("build/models/cnn"), "source")


def name_of(path: Path) -> str:
    """What a model is called unless the user names it."""
    return path.resolve().name if path.is_dir() else path.stem


def _check_examples(kind: str, examples: Examples) -> None:
    """Refuse options of example inputs that would not be heeded.

    Raises:
        UsageError: a trained network has examples of its own, or the options exclude each other.
    """
    from harness.repository.inputs import InputOptions

    plain, random = InputOptions(), examples.random
    of_random = {
        "--shape": random.shapes != plain.shapes,
        "--range": random.ranges != plain.ranges,
        "--examples": random.examples != plain.examples,
        "--seed": random.seed != plain.seed,
    }
    given = [option for option, stated in of_random.items() if stated]
    if kind == "source":
        given += ["--data"] * (examples.data is not None) + ["--resize"] * examples.resize
        if given:
            raise UsageError(
                f"{given[0]} is for a model of one's own: harness train kept test images of the network",
                remedy=f"Leave {given[0]} out, or name the model with --onnx, --keras or --saved-model",
            )
    elif examples.data is not None and given:
        raise UsageError(
            f"{given[0]} is for random inputs, and --data gives the inputs",
            remedy="Give one of the two",
        )
    elif examples.data is None and examples.resize:
        raise UsageError(
            "--resize is for pictures, and none are given", remedy="Give their folder with --data"
        )


def check_name(name: str, source: Source, precision: Precision) -> None:
    """Refuse to export a network under the name of another one.

    Args:
        name: what Triton would call the model.
        source: what would be exported.
        precision: of the export.

    Raises:
        UsageError: ``name`` says another network than the record of the training.
    """
    from harness.networks import NETWORKS
    from harness.point import variant_name

    trained = source.training.get("model")
    for network in NETWORKS:
        if name in (network, variant_name(network, precision)) and trained not in (None, network):
            raise UsageError(
                f"{name} is the name of the network {network}, and this is {trained}",
                where=source.origin,
                remedy=f"Export build/models/{network} with --source, or give another --name",
            )


def read_source(
    kind: str,
    path: Path,
    options: ServingOptions,
    examples: Examples,
    opset: int | None,
    scratch: Path,
) -> Source:
    """Read a model of any kind; what it is converted to goes to ``scratch``."""
    from harness.repository.source import file_source, onnx_source, trained_source

    _check_examples(kind, examples)
    limit = options.max_batch_size
    if kind == "source":
        if opset is not None:
            raise UsageError(
                "--opset is for a model of one's own: harness train chooses 17",
                remedy="Leave --opset out, or name the model with --onnx, --keras or --saved-model",
            )
        return trained_source(path, limit, _saved_model_run)
    if kind == "onnx":
        return onnx_source(path, limit, examples, opset, scratch)
    from harness.models.convert import convert_keras, convert_saved_model
    from harness.models.onnx_file import OPSET
    from harness.repository.source import SavedModel

    convert = convert_keras if kind == "keras" else convert_saved_model
    made = convert(path, scratch, opset=opset or OPSET)
    return file_source(
        made.onnx,
        limit,
        examples,
        origin=str(path),
        run=made.run,
        saved_model=SavedModel(made.saved_model, made.saved_model_run),
    )


def _saved_model_run(path: Path) -> Any:  # noqa: ANN401 - imported late
    from harness.models.convert import saved_model_run

    return saved_model_run(path)
