"""``harness server``: prepare, look at and remove the embedded server's environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import app
from harness.cli.console import note, out

__all__ = ["install", "remove", "status"]

server = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Prepare, look at or remove the embedded server: a real Triton without a container.",
)
app.add_typer(server, name="server")


def _say(line: str) -> None:
    note.print(line, markup=False)


@server.command()
def install(
    python: Annotated[
        Path | None,
        typer.Option(
            help="The Python 3.11 or 3.12 that models with a model.py run in: a path or a name.",
            show_default="the one that runs harness",
        ),
    ] = None,
    gpu: Annotated[
        bool,
        typer.Option("--gpu", help="With ONNX Runtime for GPUs, and the CUDA and cuDNN it needs."),
    ] = False,
) -> None:
    """Fetch the real Triton and what its Python models need, once, into an environment of its own.

    About 100 MB are fetched from your package index (pip's configuration holds) and checked against
    pinned hashes; about 300 MB are kept in $TRITON_HARNESS_HOME, or in triton-harness below
    $XDG_CACHE_HOME or ~/.cache. Where it is there already, nothing is done.

    With --gpu, 2 GB are fetched and 3.5 GB kept, in an environment of its own. It serves on
    processors too, and is used instead of the other one until it is removed.

    [bold]Examples[/bold]

      harness server install

      harness server install --python python3.12

      harness server install --gpu
    """
    from harness.servers.embedded.installation import install_environment

    environment = install_environment(python=python, gpu=gpu, progress=_say)
    out.print(
        f"The embedded server is ready, with Python {environment.python_version}: {environment.path}",
        markup=False,
    )


@server.command()
def status() -> None:
    """Say which embedded servers are installed, and whether they are whole.

    Exits with 3 where none can be used.
    """
    from harness.errors import EnvironmentFailedError
    from harness.servers.embedded.environment import environments, find_environment, verified

    for folder in environments():
        try:
            environment = verified(folder)
        except EnvironmentFailedError as error:
            out.print(str(error), markup=False)
            continue
        packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
        out.print(f"{folder}: Python {environment.python_version}, {packages}", markup=False)
    found = find_environment()
    out.print(f"In use: {found.path}", markup=False)


@server.command()
def remove() -> None:
    """Remove every embedded server that was installed; models, runs and reports stay."""
    from harness.servers.embedded.installation import remove_environments

    removed = remove_environments(_say)
    for folder in removed:
        out.print(f"Removed {folder}", markup=False)
    if not removed:
        out.print("No embedded server is installed.")
