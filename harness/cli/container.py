"""What ``harness serve`` says and asks about containers: options, and the printed launch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.console import note, out
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.scenario import ServerSpec

__all__ = ["Environment", "Gpus", "Image", "Network", "ShmSize"]
__all__ += ["print_launch", "read_spec"]

PANEL = "Container"

Image = Annotated[
    str | None,
    typer.Option(
        help="The image.", rich_help_panel=PANEL, show_default="NVIDIA's, of a pinned release"
    ),
]
Gpus = Annotated[
    str | None,
    typer.Option(
        help="GPUs that it may use: all, or a list such as 0,1.",
        rich_help_panel=PANEL,
        show_default="none",
    ),
]
ShmSize = Annotated[
    str | None,
    typer.Option(
        help="Size of its /dev/shm, such as 2g.", rich_help_panel=PANEL, show_default="1g"
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        help="bridge: ports published to 127.0.0.1 through a proxy; host: listens there directly.",
        metavar="[bridge|host]",
        rich_help_panel=PANEL,
        show_default="bridge",
    ),
]
Environment = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        help="NAME=VALUE, or NAME to pass on your own; may be given again.",
        rich_help_panel=PANEL,
        show_default="none",
    ),
]


def read_spec(common: Mapping[str, Any], container: Mapping[str, Any] | None) -> ServerSpec:
    """Make a server's specification of the command's options.

    Args:
        common: what every kind has.
        container: what a container has, ``None`` where left out; ``None`` for an embedded server.

    Raises:
        UsageError: an option is wrong, with its name.
    """
    from pydantic import ValidationError

    from harness.scenario import ServerSpec

    data: dict[str, Any] = dict(common)
    if container is not None:
        given = {key: value for key, value in container.items() if value}
        if "env" in given:
            given["env"] = dict(_variable(text) for text in given["env"])
        if "gpus" in given:
            given["gpus"] = given["gpus"].replace(" ", "").split(",")
        data |= given | {"kind": "container"}
    try:
        return ServerSpec.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else None
        raise UsageError(first["msg"].removeprefix("Value error, "), where=option) from error


def _variable(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name, value if equals else None


def print_launch(
    how: Literal["command", "compose"],
    spec: ServerSpec,
    repository: Path,
    folders: Mapping[str, Path],
) -> None:
    """Print the equivalent ``docker run`` line or compose file; nothing is started.

    Raises:
        UsageError: an option that is the harness's own.
    """
    from harness.repository.configuration import read_configuration
    from harness.servers.container.launch import STANDARD_PORTS, plan_launch
    from harness.servers.container.launch_command import compose_file, docker_run

    asked = {"http": spec.http_port, "grpc": spec.grpc_port, "metrics": spec.metrics_port}
    ports = {name: port or STANDARD_PORTS[name] for name, port in asked.items()}
    launch = plan_launch(spec, repository, ports, models=list(folders))
    text = docker_run(launch) if how == "command" else compose_file(launch).rstrip("\n")
    out.print(text, markup=False)
    for name, folder in folders.items():
        backend = read_configuration(folder / "config.pbtxt").get("backend")
        if backend == "python" and any(folder.glob("*/model.onnx")):
            note.print(
                f"{name} runs ONNX Runtime in Python, which NVIDIA's image does not have. For a launch"
                " of your own, export it with: harness export --backend onnxruntime",
                markup=False,
            )
