"""``harness export``: a trained network in, a servable folder of the model repository out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli import app
from harness.cli.console import note, out

__all__ = ["export"]


@app.command()
def export(
    *,
    source: Annotated[
        Path, typer.Option(help="A folder that harness train made.", show_default=True)
    ] = Path("build/models/cnn"),
    name: Annotated[str, typer.Option(help="What Triton will call the model.")] = "cnn",
    backend: Annotated[
        Literal["python"],
        typer.Option(help="What runs the model inside Triton: python is ONNX Runtime in Python."),
    ] = "python",
    max_batch_size: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Most inferences in one execution; 0 for a model without a batch dimension.",
            show_default="64",
        ),
    ] = None,
    dynamic_batching: Annotated[
        bool,
        typer.Option("--dynamic-batching/--no-dynamic-batching", help="Batch waiting requests."),
    ] = True,
    max_queue_delay_us: Annotated[
        int,
        typer.Option(min=0, help="How long a request may wait for others, in microseconds."),
    ] = 0,
    instances: Annotated[int, typer.Option(min=1, help="Copies of the model.")] = 1,
    kind: Annotated[Literal["cpu", "gpu"], typer.Option(help="Where the copies run.")] = "cpu",
    threads: Annotated[
        int, typer.Option(min=1, help="Threads within an operator, of each instance.")
    ] = 1,
    warmup: Annotated[
        str | None,
        typer.Option(
            help="Batch sizes that every instance runs before it is ready, such as 1,8,64;"
            " an empty string for none.",
            show_default="1, 8 and the maximum",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The model repository.")] = Path(
        "triton_models"
    ),
) -> None:
    """Write a trained network to the model repository, ready for Triton.

    Proves first that its answers are the reference's: the largest absolute difference is printed, and
    above 0.0001 nothing is written. An older export of the same name is replaced at the end, at once.

    [bold]Examples[/bold]

      harness export

      harness export --instances 2 --max-queue-delay-us 500

      harness export --source build/models/gru --name gru
    """
    from harness.point import DynamicBatching
    from harness.repository.export import export_trained
    from harness.repository.options import ServingOptions

    options = ServingOptions(
        backend=backend,
        max_batch_size=max_batch_size,
        dynamic_batching=(
            DynamicBatching(max_queue_delay_us=max_queue_delay_us) if dynamic_batching else None
        ),
        instances=instances,
        kind=kind,
        threads=threads,
        warmup=_sizes(warmup),
    )
    with note.status("Comparing the answers with the reference"):
        done = export_trained(source, output, name, options)
    out.print(
        f"largest absolute difference from the reference: {done.parity.largest_difference:.2g}"
        f" ({done.parity.examples} examples, {done.parity.tensor})"
    )
    if done.accuracy is not None:
        out.print(f"accuracy: {done.accuracy:.4f}")
    out.print(str(done.model.folder))


def _sizes(text: str | None) -> tuple[int, ...] | None:
    """``1,8,64`` to numbers; ``None`` where nothing was said."""
    if text is None:
        return None
    try:
        sizes = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise typer.BadParameter(
            f"expected batch sizes such as 1,8,64, not {text!r}", param_hint="--warmup"
        ) from error
    if any(size < 1 for size in sizes):
        raise typer.BadParameter("a batch size is at least 1", param_hint="--warmup")
    return sizes
