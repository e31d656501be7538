"""``harness export``: a model in, a servable folder of the model repository out."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import app
from harness.cli.console import note, out
from harness.cli.export_source import (
    backend_for,
    batching_for,
    check_name,
    name_of,
    one_source,
    queue_policy_for,
    read_source,
)
from harness.cli.export_values import ranges, shapes, sizes, version_policy

if TYPE_CHECKING:
    from harness.repository.export import Exported
    from harness.repository.options import ServingOptions

__all__ = ["export"]

MODEL = "The model (one of)"
BATCHING = "Batching and queues"
PLACE = "Instances, threads, versions"
DATA = "Example inputs, for --onnx, --keras and --saved-model"


def _option(*names: str, help: str, panel: str, **more: Any) -> Any:  # noqa: A002, ANN401 - typer's own
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


@app.command()
def export(
    *,
    source: Annotated[
        Path | None,
        _option(
            help="A folder that harness train made.", panel=MODEL, show_default="build/models/cnn"
        ),
    ] = None,
    onnx: Annotated[
        Path | None,
        _option(help="An ONNX file, external data beside it.", panel=MODEL, show_default=False),
    ] = None,
    keras: Annotated[
        Path | None, _option(help="A Keras file (.keras).", panel=MODEL, show_default=False)
    ] = None,
    saved_model: Annotated[
        Path | None,
        _option(help="The folder of a TensorFlow SavedModel.", panel=MODEL, show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="What Triton will call the model.",
            show_default="as the source, with the precision",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The model repository.")] = Path(
        "triton_models"
    ),
    server: Annotated[
        Literal["embedded", "container"] | None,
        typer.Option(
            help="Where it will be served; chooses the backend: python for embedded,"
            " onnxruntime for container.",
            show_default="embedded",
        ),
    ] = None,
    backend: Annotated[
        Literal["python", "onnxruntime", "tensorflow", "openvino"] | None,
        typer.Option(
            help="What runs the model inside Triton. python is ONNX Runtime in a Python model;"
            " the others come with Triton's container images.",
            show_default="python",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            help="Tag of the container image, such as 25.02-py3; implies --server container.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        Literal["float32", "float16", "int8"],
        typer.Option(help="Of weights and arithmetic; int8 is quantised by ONNX Runtime."),
    ] = "float32",
    max_accuracy_loss: Annotated[
        float,
        typer.Option(min=0, max=1, help="What float16 or int8 may lose; 0.01 is one in a hundred."),
    ] = 0.01,
    opset: Annotated[
        int | None,
        typer.Option(
            min=7,
            help="Convert to this version of the ONNX operators.",
            show_default="17 for Keras and TensorFlow; an ONNX file's own",
        ),
    ] = None,
    max_batch_size: Annotated[
        int | None,
        _option(
            min=0,
            help="Most inferences in one execution; 0 for a model without a batch dimension.",
            panel=BATCHING,
            show_default="64; 0 where the first dimension is fixed",
        ),
    ] = None,
    dynamic_batching: Annotated[
        bool,
        _option(
            "--dynamic-batching/--no-dynamic-batching",
            help="Batch waiting requests.",
            panel=BATCHING,
        ),
    ] = True,
    max_queue_delay_us: Annotated[
        int,
        _option(
            min=0,
            help="How long a request may wait for others, in microseconds.",
            panel=BATCHING,
        ),
    ] = 0,
    preferred_batch_size: Annotated[
        str | None,
        _option(
            help="Batch sizes to aim for, such as 8,16. Triton advises to leave it out.",
            panel=BATCHING,
            show_default="the maximum",
        ),
    ] = None,
    preserve_ordering: Annotated[
        bool, _option("--preserve-ordering", help="Answers leave in order.", panel=BATCHING)
    ] = False,
    max_queue_size: Annotated[
        int, _option(min=0, help="Most requests that may wait; 0 for any.", panel=BATCHING)
    ] = 0,
    queue_timeout_us: Annotated[
        int,
        _option(
            min=0,
            help="A request that waited longer has timed out, in microseconds; 0 for never.",
            panel=BATCHING,
        ),
    ] = 0,
    timeout_action: Annotated[
        Literal["reject", "delay"],
        _option(help="What becomes of a request that has timed out.", panel=BATCHING),
    ] = "reject",
    priority_levels: Annotated[
        int, _option(min=0, help="Levels of priority; 0 for none.", panel=BATCHING)
    ] = 0,
    default_priority_level: Annotated[
        int,
        _option(
            min=0,
            help="Level of a request that states none; 1 is the most urgent.",
            panel=BATCHING,
            show_default="the middle one",
        ),
    ] = 0,
    response_cache: Annotated[
        bool,
        _option(
            "--response-cache",
            help="Answer repeated inputs from a cache; the server needs --cache-config too.",
            panel=BATCHING,
        ),
    ] = False,
    instances: Annotated[int, _option(min=1, help="Copies of the model.", panel=PLACE)] = 1,
    kind: Annotated[
        Literal["cpu", "gpu"], _option(help="Where the copies run.", panel=PLACE)
    ] = "cpu",
    gpus: Annotated[
        str | None, _option(help="Which GPUs, such as 0,1.", panel=PLACE, show_default="all")
    ] = None,
    threads: Annotated[
        int, _option(min=1, help="Threads within an operator, of each instance.", panel=PLACE)
    ] = 1,
    inter_op_threads: Annotated[
        int, _option(min=1, help="Threads across operators, of each instance.", panel=PLACE)
    ] = 1,
    graph_optimization: Annotated[
        Literal["all", "extended", "basic", "none"],
        _option(help="How far ONNX Runtime may rewrite the graph.", panel=PLACE),
    ] = "all",
    warmup: Annotated[
        str | None,
        _option(
            help="Batch sizes that every instance runs before it is ready, such as 1,8,64;"
            " an empty string for none.",
            panel=PLACE,
            show_default="1, 8 and the maximum",
        ),
    ] = None,
    version: Annotated[
        int, _option(min=1, help="Number of the version to write.", panel=PLACE)
    ] = 1,
    beside: Annotated[
        bool,
        _option("--beside", help="Keep the model's other versions beside this one.", panel=PLACE),
    ] = False,
    served_versions: Annotated[
        str | None,
        _option(
            "--version-policy",
            help="Versions to serve: all, latest:2, or numbers such as 1,3.",
            panel=PLACE,
            show_default="the latest",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        _option(
            help="A .npz (one array an input), .npy or .json file, or a folder of pictures.",
            panel=DATA,
            show_default="random",
        ),
    ] = None,
    resize: Annotated[
        bool, _option("--resize", help="Bring pictures to the model's size.", panel=DATA)
    ] = False,
    examples: Annotated[int, _option(min=1, help="How many random ones.", panel=DATA)] = 64,
    shape: Annotated[
        list[str] | None,
        _option(
            help="An input's shape without the batch dimension, such as tokens=16, where a dimension"
            " is dynamic; may be given again.",
            panel=DATA,
            show_default=False,
        ),
    ] = None,
    range_: Annotated[
        list[str] | None,
        _option(
            "--range",
            help="An input's range, such as tokens=0:30000; may be given again.",
            panel=DATA,
            show_default="0:1, whole numbers 0:10",
        ),
    ] = None,
    seed: Annotated[int, _option(min=0, help="Seeds random inputs.", panel=DATA)] = 7,
) -> None:
    """Write a model to the model repository, ready for Triton.

    Proves first that its answers are the reference's: the largest absolute difference is printed, and
    above 0.0001 (relative to answers beyond 1) nothing is written. float16 and int8 are judged by what
    they lose instead. An older export of the same name is replaced at the end, at once.

    [bold]Examples[/bold]

      harness export

      harness export --instances 2 --max-queue-delay-us 500

      harness export --precision int8 --max-accuracy-loss 0.02

      harness export --image 25.02-py3 --backend tensorflow

      harness export --onnx bert.onnx --shape tokens=128 --range tokens=0:30000
    """
    from harness.models.framework import require

    require("onnx", "onnxruntime", "PIL")
    from harness.point import DynamicBatching, variant_name
    from harness.repository.export import Target, export_model
    from harness.repository.inputs import InputOptions
    from harness.repository.options import ServingOptions
    from harness.repository.source import Examples

    options = ServingOptions(
        backend=backend_for(backend, server, image),
        image=image,
        max_batch_size=max_batch_size,
        dynamic_batching=batching_for(
            dynamic_batching,
            DynamicBatching(
                max_queue_delay_us=max_queue_delay_us,
                preferred_batch_sizes=sizes(preferred_batch_size, "--preferred-batch-size") or (),
                preserve_ordering=preserve_ordering,
            ),
        ),
        queue_policy=queue_policy_for(max_queue_size, queue_timeout_us, timeout_action),
        priority_levels=priority_levels,
        default_priority_level=default_priority_level or (priority_levels + 1) // 2,
        instances=instances,
        kind=kind,
        gpus=sizes(gpus, "--gpus", least=0) or (),
        threads=threads,
        inter_op_threads=inter_op_threads,
        warmup=sizes(warmup, "--warmup"),
        response_cache=response_cache,
        version_policy=version_policy(served_versions),
        graph_optimization=graph_optimization,
    )
    inputs = Examples(
        random=InputOptions(
            examples=examples, shapes=shapes(shape or []), ranges=ranges(range_ or []), seed=seed
        ),
        data=data,
        resize=resize,
    )
    path, kind_of_source = one_source(source, onnx, keras, saved_model)
    target = Target(
        name=name or variant_name(name_of(path), precision),
        options=options,
        precision=precision,
        max_accuracy_loss=max_accuracy_loss,
        version=version,
        beside=beside,
    )
    with TemporaryDirectory(prefix="triton-harness-") as scratch:
        with note.status("Reading the model"):
            model = read_source(kind_of_source, path, options, inputs, opset, Path(scratch))
        check_name(target.name, model, precision)
        with note.status("Comparing the answers with the reference"):
            done = export_model(model, output, target)
    _show(done, options)


def _show(done: Exported, options: ServingOptions) -> None:
    from harness.repository.formats import image_note

    parity, loss = done.parity, done.loss
    out.print(
        f"largest absolute difference from the reference: {parity.largest_difference:.2g}"
        f" ({parity.examples} examples, {parity.tensor})"
    )
    if loss is not None:
        out.print(f"loss of {loss.measure}: {loss.loss:.2%} ({loss.examples} examples)")
    if done.accuracy is not None:
        out.print(f"accuracy: {done.accuracy:.4f}")
    record = done.model.record
    if warning := image_note(options, record["opset"], record["ir_version"]):
        note.print(f"note: {warning}", markup=False)
    out.print(str(done.model.folder), markup=False)
