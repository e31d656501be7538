"""A container's image on its way: a bar on a terminal, and a line now and then in a log."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.cli.console import duration, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.scenario import ServerSpec
    from harness.servers.container.image import PullProgress

__all__ = ["PullLines", "fetch_image"]

# Often enough that nobody takes it for dead, and an hour of it is a page: later the pauses grow with the time so far.
LINE_EVERY_S = 10.0
LINE_EVERY_PART = 0.1


def fetch_image(spec: ServerSpec) -> None:
    """Fetch a container's image where it is missing, and show how far it has come.

    Raises:
        EnvironmentFailedError: no container engine, or the image cannot be had.
    """
    from harness.servers.container.launch import DEFAULT_IMAGE
    from harness.servers.container.start import prepare_image

    if note.is_terminal:
        with _bar() as show:
            prepare_image(spec, show)
        return
    lines = PullLines(spec.image or DEFAULT_IMAGE, lambda line: note.print(line, markup=False))
    prepare_image(spec, lines.take)
    lines.end()


@contextmanager
def _bar() -> Iterator[Callable[[PullProgress], None]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn())
    with Progress(*columns, console=note, transient=True) as bar:
        task = bar.add_task("", visible=False)

        def show(progress: PullProgress) -> None:
            bar.update(
                task,
                description=f"fetching the image, {_layers(progress)}",
                completed=progress.done_bytes,
                total=progress.total_bytes or None,
                visible=True,
            )

        yield show


class PullLines:
    """Says how far an image has come: at once, then now and then, and at the end.

    Args:
        image: its name.
        say: prints a line.
        clock: the time, in seconds.
    """

    def __init__(
        self, image: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._image = image
        self._say = say
        self._clock = clock
        self._began_s: float | None = None
        self._said_s = 0.0

    def take(self, progress: PullProgress) -> None:
        """Take what has come, and say so if it is time."""
        if not progress.layers:
            return
        now = self._clock()
        if self._began_s is None:
            self._began_s = self._said_s = now
            self._say(f"Fetching the image {self._image}")
            return
        taken_s = now - self._began_s
        if now - self._said_s >= max(LINE_EVERY_S, LINE_EVERY_PART * taken_s):
            self._said_s = now
            self._say(f"  {_standing(progress, taken_s)}")

    def end(self) -> None:
        """Say that it is here, where it was fetched."""
        if self._began_s is not None:
            self._say(f"  here after {duration(self._clock() - self._began_s)}")


def _standing(progress: PullProgress, taken_s: float) -> str:
    """Bytes and layers, and the time that the rest takes where the sizes of all layers are known."""
    from rich.filesize import decimal

    done, total = progress.done_bytes, progress.total_bytes
    layers = _layers(progress)
    if not total:
        return layers
    if progress.layers_sized < progress.layers:
        return f"{decimal(done)} of more than {decimal(total)}, {layers}"
    if done >= total:
        return f"{decimal(done)} fetched, being unpacked, {layers}"
    known = done and not progress.layers_broken
    left = f", {duration(taken_s * (total - done) / done)} left" if known else ""
    return f"{decimal(done)} of {decimal(total)}, {layers}{left}"


def _layers(progress: PullProgress) -> str:
    broken = "; the registry broke off, and is asked again" if progress.layers_broken else ""
    return f"{progress.layers_done}/{progress.layers} layers{broken}"
