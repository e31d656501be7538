"""``harness serve``: exported models on a real Triton, in the foreground."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import app
from harness.cli import container as containers
from harness.cli.console import note, out
from harness.cli.fetching import fetch_image
from harness.errors import EnvironmentFailedError, UsageError
from harness.interrupt import heed

if TYPE_CHECKING:
    from harness.scenario import ServerSpec
    from harness.servers.server import Endpoints

__all__ = ["serve"]

LOOK_EVERY_S = 0.2

Port = Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")]


@app.command()
def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of models in the repository.", metavar="[MODEL]...", show_default="all"
        ),
    ] = None,
    *,
    repository: Annotated[
        Path, typer.Option("--repository", "-r", help="The model repository that export wrote.")
    ] = Path("triton_models"),
    http_port: Port = 0,
    grpc_port: Port = 0,
    metrics_port: Port = 0,
    cpus: Annotated[
        str | None,
        typer.Option(help="The cores that the server may use, such as 0,2-3.", show_default="all"),
    ] = None,
    ready_timeout_s: Annotated[
        float, typer.Option(min=0.1, help="Seconds that server and models may take to be ready.")
    ] = 60.0,
    logs: Annotated[
        Path | None,
        typer.Option(help="Folder for tritonserver.log.", show_default="not kept"),
    ] = None,
    server_arg: Annotated[
        list[str] | None,
        typer.Option(
            help="A further option of tritonserver; may be given again.", show_default="none"
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Limit on its memory, Python stubs included, such as 4g.", show_default="none"
        ),
    ] = None,
    container: Annotated[
        bool,
        typer.Option(
            "--container",
            help="Serve in a container of Docker or Podman.",
            rich_help_panel=containers.PANEL,
        ),
    ] = False,
    image: containers.Image = None,
    gpus: containers.Gpus = None,
    shm_size: containers.ShmSize = None,
    network: containers.Network = None,
    env: containers.Environment = None,
    print_command: Annotated[
        bool,
        typer.Option(
            "--print-command",
            help="Print the equivalent docker run line, and start nothing.",
            rich_help_panel=containers.PANEL,
        ),
    ] = False,
    print_compose: Annotated[
        bool,
        typer.Option(
            "--print-compose",
            help="Print the equivalent compose file, and start nothing.",
            rich_help_panel=containers.PANEL,
        ),
    ] = False,
) -> None:
    """Serve models on a real Triton, on loopback only, until Ctrl-C or SIGTERM.

    The endpoints are printed once every model is ready. Nothing is left behind: no process, no
    container, no shared memory, no port, no temporary file.

    [bold]Examples[/bold]

      harness serve

      harness serve cnn --http-port 8000 --grpc-port 8001

      harness serve cnn --server-arg=--cache-config=local,size=1048576

      harness serve cnn --container --gpus all

      harness serve cnn --print-command

    [bold]Exit codes[/bold]: 0 ended by Ctrl-C or SIGTERM; 2 no such model; 3 the server failed.
    """
    common = {
        "http_port": http_port,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        "ready_timeout_s": ready_timeout_s,
        "cpus": _cores(cpus),
        "extra_args": tuple(server_arg or ()),
        "memory": memory,
    }
    of_container = {
        "image": image,
        "gpus": gpus,
        "shm_size": shm_size,
        "network": network,
        "env": env,
    }
    if print_command and print_compose:
        raise UsageError(
            "only one of the two can be printed",
            where="--print-command --print-compose",
            remedy="Leave one of them out",
        )
    printed = print_command or print_compose
    if not (container or printed) and any(of_container.values()):
        option = next(name for name, value in of_container.items() if value).replace("_", "-")
        raise UsageError(
            "this is an option of containers", where=f"--{option}", remedy="Add --container"
        )
    spec = containers.read_spec(common, of_container if container or printed else None)
    folders = _folders(repository, models or [])
    if printed:
        how: Literal["command", "compose"] = "compose" if print_compose else "command"
        containers.print_launch(how, spec, repository, folders)
        return
    _serve(folders, spec, logs)


def _serve(folders: dict[str, Path], spec: ServerSpec, logs: Path | None) -> None:
    from harness.folder import make_folder
    from harness.repository.configuration import read_configuration
    from harness.servers import serving
    from harness.servers.backend import configuration_for
    from harness.servers.control import Control
    from harness.servers.health import Health
    from harness.servers.leftovers import temporary_folder
    from harness.servers.staging import staged

    run_id = f"serve-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        if logs is None:
            logs = stack.enter_context(temporary_folder(run_id))
        else:
            make_folder(logs, option="--logs")
        if spec.kind == "container":
            fetch_image(spec)
        staging = stack.enter_context(staged(folders, run_id))
        server = stack.enter_context(serving(spec, staging, logs=logs, run_id=run_id))
        health = Health(server)
        with Control(server.endpoints, log=server.log) as control:
            for name, folder in folders.items():
                exported = read_configuration(folder / "config.pbtxt")
                config = configuration_for(exported, folder, server.describe().get("backends", ()))
                override = None if config == exported else config
                control.load(name, override, deadline_s=spec.ready_timeout_s)
        health.settle()
        try:
            _announce(server.endpoints, list(folders))
            while (failure := health.failure()) is None:
                heed()
                time.sleep(LOOK_EVERY_S)
        except KeyboardInterrupt:
            note.print("Stopping.")
            return
        raise EnvironmentFailedError(failure)


def _announce(endpoints: Endpoints, models: list[str]) -> None:
    out.print(f"HTTP     http://{endpoints.http}", markup=False)
    out.print(f"gRPC     {endpoints.grpc}", markup=False)
    out.print(f"metrics  http://{endpoints.metrics}/metrics", markup=False)
    note.print(f"Serving {', '.join(models)}. Ctrl-C ends it.", markup=False)


def _folders(repository: Path, names: list[str]) -> dict[str, Path]:
    """The folders of the models asked for; of all where none is."""
    if not names:
        names = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
        # A fresh clone has configurations whose weights nobody has exported yet.
        names = [name for name in names if any((repository / name).glob("[0-9]*/*"))]
    if not names:
        raise UsageError(
            "no exported model in this repository",
            where=str(repository),
            remedy="Make one with: harness train and harness export",
        )
    return {name: repository / name for name in names}


def _cores(text: str | None) -> tuple[int, ...]:
    """Read ``0,2-3`` as (0, 2, 3)."""
    cores: set[int] = set()
    for part in (text or "").replace(" ", "").split(",") if text else ():
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UsageError(
                f"{text!r} is no list of cores", where="--cpus", remedy="Write it as 0,2-3"
            )
        cores |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(cores))
