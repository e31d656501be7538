"""What each of Triton's backends reads: file, platform, names of its parameters, and its limits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.errors import UsageError
from harness.server_spec import LAST_WITH_TENSORFLOW

if TYPE_CHECKING:
    from harness.repository.options import Backend, GraphOptimization, ServingOptions

__all__ = ["FORMATS", "GRAPH_LEVELS", "Format", "check_format", "image_note"]

# ``optimization.graph.level`` as the ONNX Runtime backend reads it; absent means all.
GRAPH_LEVELS: dict[GraphOptimization, int | None] = {
    "all": None,
    "extended": 1,
    "basic": -1,
    "none": 2,
}
# What ONNX Runtime 1.19, of Triton's images of 2024, reads at most.
OPSET_OF_2024, IR_VERSION_OF_2024 = 21, 10


@dataclass(frozen=True)
class Format:
    """What a backend reads.

    Attributes:
        weights: the file, or the folder of a SavedModel, in a version's folder.
        intra_threads: the parameter for threads within an operator.
        inter_threads: the parameter for threads across operators; ``None`` where there is none.
        platform: for ``config.pbtxt``, where the backend alone does not say it.
        states_filename: ``weights`` is not the backend's own default, so ``config.pbtxt`` names it.
        parameters: further parameters without which it does not serve as one expects.
        graph_levels: it reads ``optimization.graph.level``.
    """

    weights: Literal["model.onnx", "model.savedmodel"]
    intra_threads: str
    inter_threads: str | None
    platform: str | None = None
    states_filename: bool = False
    parameters: tuple[tuple[str, str], ...] = ()
    graph_levels: bool = False


FORMATS: dict[Backend, Format] = {
    "python": Format(
        "model.onnx", "intra_op_thread_count", "inter_op_thread_count", graph_levels=True
    ),
    "onnxruntime": Format(
        "model.onnx", "intra_op_thread_count", "inter_op_thread_count", graph_levels=True
    ),
    "tensorflow": Format(
        "model.savedmodel",
        "TF_NUM_INTRA_THREADS",
        "TF_NUM_INTER_THREADS",
        platform="tensorflow_savedmodel",
    ),
    # The backend sets the model's batch to max_batch_size and refuses every smaller one unless it may
    # pad (``openvino.cc`` of triton-inference-server/openvino_backend).
    "openvino": Format(
        "model.onnx",
        "INFERENCE_NUM_THREADS",
        None,
        states_filename=True,
        parameters=(("ENABLE_BATCH_PADDING", "YES"),),
    ),
}


def check_format(options: ServingOptions, precision: str, data_types: set[str]) -> None:
    """Refuse what the chosen backend cannot do.

    Args:
        options: how the model is to be served.
        precision: ``float32``, ``float16`` or ``int8``.
        data_types: Triton's data types of all tensors.

    Raises:
        UsageError: with the reason and the way out.
    """
    backend, known = options.backend, FORMATS[options.backend]
    where = f"backend {backend}"
    if backend == "tensorflow" and _image(options.image) > _image(LAST_WITH_TENSORFLOW):
        raise UsageError(
            f"the image {options.image} has no TensorFlow backend: {LAST_WITH_TENSORFLOW} was the last"
            " that had one",
            where=where,
            remedy=f"Use an image up to {LAST_WITH_TENSORFLOW}, or --backend onnxruntime",
        )
    if backend == "tensorflow" and precision != "float32":
        raise UsageError(
            f"{precision} is made by rewriting the ONNX graph, and TensorFlow reads none",
            where=where,
            remedy="Use --backend python, onnxruntime or openvino",
        )
    if backend == "openvino" and "TYPE_STRING" in data_types:
        raise UsageError(
            "Triton's OpenVINO backend takes no strings",
            where=where,
            remedy="Use --backend python or onnxruntime",
        )
    if options.graph_optimization != "all" and not known.graph_levels:
        raise UsageError(
            "the level of graph optimization is ONNX Runtime's own",
            where=where,
            remedy="Leave --graph-optimization out, or use --backend python or onnxruntime",
        )
    if options.inter_op_threads != 1 and known.inter_threads is None:
        raise UsageError(
            "there are no threads across operators", where=where, remedy="Use --threads alone"
        )


def image_note(options: ServingOptions, opset: int, ir_version: int) -> str | None:
    """Say which container images will not serve the model; ``None`` where any will."""
    if options.backend == "tensorflow" and options.image is None:
        return (
            f"container images up to {LAST_WITH_TENSORFLOW} serve this, newer ones have no TensorFlow"
            " backend (see --image)"
        )
    from_image = options.backend in ("onnxruntime", "openvino")
    if from_image and (opset > OPSET_OF_2024 or ir_version > IR_VERSION_OF_2024):
        return (
            f"the ONNX file has opset {opset} and IR version {ir_version}; container images of 2024"
            f" read at most opset {OPSET_OF_2024} and IR version {IR_VERSION_OF_2024} (see --opset)"
        )
    return None


def _image(tag: str | None) -> tuple[int, int]:
    """Year and month of an image's tag; zeros where none is stated."""
    if tag is None:
        return (0, 0)
    match = re.search(r"(?:^|:)(\d\d)\.(\d\d)(?:-|$)", tag)
    if match is None:
        raise UsageError(
            f"{tag!r} is not the tag of a Triton image", remedy="Give one such as 25.02-py3"
        )
    return int(match[1]), int(match[2])
