"""``harness predict``: pictures in, classes and probabilities of a served model out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import app
from harness.cli.console import out
from harness.errors import EnvironmentFailedError, HarnessError, MeasurementError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from harness.repository.images import ImageFormat

__all__ = ["predict"]

GRPC_PORT = 8001


@app.command()
def predict(
    images: Annotated[
        list[Path],
        typer.Argument(help="PNG, JPEG or .npy files.", metavar="IMAGE...", show_default=False),
    ],
    *,
    host: Annotated[
        str, typer.Option(help="A running Triton: HOST or HOST:PORT of its gRPC endpoint.")
    ] = f"127.0.0.1:{GRPC_PORT}",
    model: Annotated[str, typer.Option(help="The model's name.")] = "cnn",
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    resize: Annotated[
        bool, typer.Option("--resize", help="Bring pictures to the model's size.")
    ] = False,
    invert: Annotated[
        bool, typer.Option("--invert", help="Swap dark and light, for dark strokes on paper.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a picture, all classes in it.")
    ] = False,
    repository: Annotated[
        Path,
        typer.Option("--repository", "-r", help="Where the names of the classes are looked up."),
    ] = Path("triton_models"),
    timeout_s: Annotated[
        float, typer.Option(min=0.01, help="Seconds that the server may take for an answer.")
    ] = 30.0,
) -> None:
    """Send pictures to a running Triton and print the most likely classes.

    Pictures become grey or coloured as the model takes them, and 0 to 255 becomes 0 to 1; a .npy is
    sent as it is.

    [bold]Examples[/bold]

      harness predict docs/digit.png

      harness predict scan.jpg --resize --invert --host 127.0.0.1:8001

      harness predict *.npy --model gru --json
    """
    import numpy as np
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    from harness.repository.images import check_file, read_image

    if "/" in host:
        raise UsageError(
            f"{host} is not the address of a gRPC endpoint",
            where="--host",
            remedy="Give HOST or HOST:PORT, such as 127.0.0.1:8001",
        )
    for path in images:
        check_file(path)
    address = host if ":" in host else f"{host}:{GRPC_PORT}"
    with triton.InferenceServerClient(
        address, channel_args=[("grpc.enable_http_proxy", 0)]
    ) as client:
        try:
            form, tensor, at_once = _input_of(client, model, address, timeout_s)
            pictures = [read_image(path, form, resize=resize, invert=invert) for path in images]
            rows = [
                row
                for start in range(0, len(pictures), at_once or 1)
                for row in _ask(
                    client,
                    model,
                    tensor,
                    np.stack(pictures[start : start + (at_once or 1)]),
                    timeout_s,
                )
            ]
        except InferenceServerException as error:
            raise _sentence(error, model, address) from error
    names = _class_names(repository, model, len(rows[0]))
    for path, row in zip(images, rows, strict=True):
        _show(path, row, names, top, as_json=as_json)


def _input_of(
    client: Any,  # noqa: ANN401 - tritonclient ships no types
    model: str,
    address: str,
    timeout_s: float,
) -> tuple[ImageFormat, dict[str, Any], int]:
    """How the served model takes a picture, its input tensor, and how many go at once (0: no batch)."""
    from harness.repository.images import image_format
    from harness.repository.tensors import DATA_TYPES

    where = f"model {model} on {address}"
    answer = client.get_model_config(model, as_json=True, client_timeout=timeout_s)["config"]
    if len(answer["input"]) != 1:
        raise UsageError(
            "the model has several inputs, and a picture is one",
            where=where,
            remedy="Send its data with tritonclient",
        )
    [tensor] = answer["input"]
    limit = int(answer.get("max_batch_size", 0))
    dims = tuple(int(size) for size in tensor["dims"])
    fixed = limit == 0 and len(dims) == 4 and dims[0] in (-1, 1)  # the batch is one of its own dims
    dtype, datatype, _ = DATA_TYPES[tensor["data_type"]]
    form = image_format(dims[1:] if fixed else dims, dtype, where=where)
    return (
        form,
        {"name": tensor["name"], "datatype": datatype, "wrapped": limit > 0 or fixed},
        limit,
    )


def _ask(
    client: Any,  # noqa: ANN401 - tritonclient ships no types
    model: str,
    tensor: dict[str, Any],
    pictures: npt.NDArray[Any],
    timeout_s: float,
) -> list[list[float]]:
    """The scores of each picture, shape (pictures, classes)."""
    import numpy as np
    import tritonclient.grpc as triton

    body = pictures if tensor["wrapped"] else pictures[0]
    asked = triton.InferInput(tensor["name"], list(body.shape), tensor["datatype"])
    asked.set_data_from_numpy(np.ascontiguousarray(body))
    result = client.infer(model, [asked], client_timeout=timeout_s)
    outputs = [result.as_numpy(output.name) for output in result.get_response().outputs]
    scores = outputs[0].reshape(len(pictures), -1) if len(outputs) == 1 else None
    if scores is None or scores.dtype.kind != "f" or scores.shape[1] < 2:
        raise UsageError(
            "the model does not answer with one score a class",
            where=f"model {model}",
            remedy="Name a classifier with --model, or ask this one with tritonclient",
        )
    if not np.isfinite(scores).all():
        raise MeasurementError(
            "the model answered with NaN or infinity",
            where=f"model {model}",
            remedy="Export it again: harness export compares its answers with the original's",
        )
    answers: list[list[float]] = scores.astype(float).tolist()
    return answers


def _sentence(error: Any, model: str, address: str) -> HarnessError:  # noqa: ANN401
    status = str(error.status() or "")
    message = " ".join(str(error.message()).split()).rstrip(". ")
    if "UNAVAILABLE" in status:
        return EnvironmentFailedError(
            "no Triton answers over gRPC",
            where=address,
            remedy="Start one with harness serve, or give its gRPC address with --host",
        )
    if "DEADLINE_EXCEEDED" in status:
        return EnvironmentFailedError(
            "no answer in time", where=address, remedy="Raise --timeout-s"
        )
    if "NOT_FOUND" in status or "unknown model" in message:
        return UsageError(
            f"the server has no model {model} ready ({message})",
            where=address,
            remedy="Name one that it serves with --model",
        )
    return EnvironmentFailedError(
        f"the server failed ({message})", where=address, remedy="Its log says more"
    )


def _class_names(repository: Path, model: str, count: int) -> Sequence[str]:
    """The classes as the model was trained with them, or their numbers."""
    try:
        record = json.loads((repository / model / "export.json").read_text(encoding="utf-8"))
        names = record["training"]["classes"]
    except (OSError, ValueError, KeyError, TypeError):
        names = []
    return names if len(names) == count else [str(number) for number in range(count)]


def _show(
    path: Path, scores: list[float], names: Sequence[str], top: int, *, as_json: bool
) -> None:
    ranked = sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1])
    if as_json:
        line = {"image": str(path), "class": ranked[0][0], "probabilities": dict(ranked)}
        out.print(json.dumps(line, ensure_ascii=False), markup=False)
    else:
        best = ", ".join(f"{name} ({score:.4f})" for name, score in ranked[:top])
        out.print(f"{path}: {best}", markup=False)
