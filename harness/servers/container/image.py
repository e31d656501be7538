"""The server's image: there or fetched, and what backends it has."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentFailedError
from harness.servers.container.engine import engine_errors, labels, remove, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docker import DockerClient

__all__ = ["ImageFacts", "PullProgress", "ensure_image", "facts"]

BACKENDS = "/opt/tritonserver/backends"
OUT_OF_REACH = ("no such host", "dial tcp", "timeout", "connection refused")
# What an engine says of a layer with its size: either may be left out, where it was over at once.
MEASURED = frozenset({"Downloading", "Extracting"})
# Of one that has come, and of one that is unpacked, too.
FETCHED = frozenset({"Verifying Checksum", "Download complete", "Extracting"})
COMPLETE = frozenset({"Pull complete", "Already exists"})
BROKEN_OFF = ("unexpected eof", ": eof", "connection reset", "broken pipe", "byte range")


@dataclass(frozen=True)
class PullProgress:
    """How far an image has come. An engine tells a layer's size only when it begins to fetch it.

    Attributes:
        done_bytes, total_bytes: of the layers that are known so far.
        layers_done, layers: complete, and known so far.
        layers_sized: those whose size is known, or needs not be: they have come.
        layers_broken: those that broke off, and that the engine is about to ask for again.
    """

    done_bytes: int = 0
    total_bytes: int = 0
    layers_done: int = 0
    layers: int = 0
    layers_sized: int = 0
    layers_broken: int = 0


@dataclass(frozen=True)
class ImageFacts:
    """What an image is.

    Attributes:
        name: as it was asked for.
        image_id: the digest of its configuration, ``sha256:…``.
        digest: ``name@sha256:…`` in the registry it came from; ``None`` for one made here.
        release: NVIDIA's release, such as ``25.02``, where the image says so.
        backends: the backends in it, sorted.
    """

    name: str
    image_id: str
    digest: str | None
    release: str | None
    backends: tuple[str, ...]


def ensure_image(
    client: DockerClient, name: str, on_progress: Callable[[PullProgress], None] = lambda _: None
) -> str:
    """Return the id of the image ``name``, fetched first where it is missing.

    Raises:
        EnvironmentFailedError: it is not here and cannot be fetched, with the reason.
    """
    from docker.errors import ImageNotFound

    with engine_errors(f"the image {name} cannot be looked for"):
        try:
            return client.images.get(name).id or ""
        except ImageNotFound:
            pass
    _pull(client, name, on_progress)
    with engine_errors(f"the image {name} was fetched and cannot be found"):
        return client.images.get(name).id or ""


def _pull(client: DockerClient, name: str, on_progress: Callable[[PullProgress], None]) -> None:
    from docker.errors import APIError
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(name)
    layers, failed = Layers(), None
    try:
        with engine_errors(f"the image {name} was not fetched to its end"):
            try:
                events = client.api.pull(repository, tag or "latest", stream=True, decode=True)
                for event in events:
                    # It is the last, and a stream that is read to its end leaves no connection open.
                    failed = event.get("error") or failed
                    if layers.take(event):
                        on_progress(layers.progress())
            except APIError as error:
                raise cannot_fetch(name, str(error.explanation)) from error
    finally:
        on_progress(layers.progress())
    if failed:
        raise cannot_fetch(name, str(failed))


@dataclass
class Layers:
    """The layers of an image on their way, by what the engine says of each."""

    sizes: dict[str, int] = field(default_factory=dict)
    fetched: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)

    def take(self, event: dict[str, Any]) -> bool:
        """Take one event of a pull; return whether it changes what is to be shown."""
        layer, status = event.get("id"), event.get("status")
        if not layer or not isinstance(status, str) or status.startswith("Pulling from"):
            return False
        self.known.add(layer)
        self.broken.discard(layer)
        detail = event.get("progressDetail") or {}
        current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
        size = self.sizes.get(layer, 0)
        if status in MEASURED:
            self.sizes[layer] = size = max(total, size)
        if status == "Downloading":
            # Of a layer that broke off, it tells what has come of the rest.
            self.fetched[layer] = size - total + current
            if current < total:
                self.seen[layer] = self.fetched[layer]
        elif status.startswith("Retrying"):
            # Where a layer breaks off, Docker says that all of it has come.
            self.fetched[layer] = self.seen.get(layer, 0)
            self.broken.add(layer)
        elif status in FETCHED | COMPLETE:
            self.fetched[layer] = size
            self.whole.add(layer)
        if status in COMPLETE:
            self.complete.add(layer)
        return True

    def progress(self) -> PullProgress:
        """Where it stands."""
        return PullProgress(
            sum(self.fetched.values()),
            sum(self.sizes.values()),
            len(self.complete),
            len(self.known),
            len(self.whole | {layer for layer, size in self.sizes.items() if size}),
            len(self.broken),
        )


def cannot_fetch(name: str, said: str) -> EnvironmentFailedError:
    """Say why an image cannot be had."""
    said = " ".join(said.split())
    lower = said.lower()
    remedy = "Look at the name and the tag, or bring the image here with docker load"
    if any(mark in lower for mark in OUT_OF_REACH):
        why = "its registry cannot be reached"
    elif any(mark in lower for mark in BROKEN_OFF):
        why = "the connection to its registry broke off"
        remedy = "Run it again, or bring the image here with docker load"
    elif any(mark in lower for mark in ("denied", "unauthorized", "authentication required")):
        why = "its registry wants a login, or has no such image"
        remedy = "Look at the name, or log in with docker login"
    elif "manifest unknown" in lower or "not found" in lower:
        why = "its registry has no such image"
    elif "no space left" in lower:
        why = "there is no room on the engine's disk"
        remedy = "Free room, for instance with docker system prune"
    else:
        why = "the engine cannot fetch it"
    return EnvironmentFailedError(f"the image {name} is not here and {why} ({said})", remedy=remedy)


def facts(client: DockerClient, name: str, image_id: str, run_id: str) -> ImageFacts:
    """Ask an image what it is; its folder of backends is listed in a container that ends at once.

    Raises:
        EnvironmentFailedError: it is not a Triton image.
    """
    with engine_errors(f"the image {name} cannot be looked at"):
        attributes = client.images.get(image_id).attrs
    variables = dict(
        line.partition("=")[::2] for line in (attributes.get("Config") or {}).get("Env") or []
    )
    return ImageFacts(
        name=name,
        image_id=image_id,
        digest=digest_of(name, attributes.get("RepoDigests") or []),
        release=variables.get("NVIDIA_TRITON_SERVER_VERSION"),
        backends=_backends(client, name, image_id, run_id),
    )


def digest_of(name: str, digests: Iterable[str]) -> str | None:
    """The digest of the repository that was asked for; else any."""
    from docker.utils import parse_repository_tag

    repository = parse_repository_tag(name)[0]
    of_name = [digest for digest in digests if digest.partition("@")[0].endswith(repository)]
    return next(iter([*of_name, *digests]), None)


def _backends(client: DockerClient, name: str, image_id: str, run_id: str) -> tuple[str, ...]:
    from docker.errors import APIError, ContainerError
    from docker.types import LogConfig

    container = f"triton-harness-{run_id}-{secrets.token_hex(3)}"
    try:
        with engine_errors(f"the image {name} cannot be looked into"):
            listing = uninterrupted(
                lambda: client.containers.run(
                    image_id,
                    ["-1", BACKENDS],
                    entrypoint="ls",
                    name=container,
                    labels=labels(run_id),
                    network_mode="none",
                    security_opt=["no-new-privileges"],
                    log_config=LogConfig(type=LogConfig.types.JSON),
                )
            )
    except EnvironmentFailedError as error:
        if isinstance(error.__cause__, ContainerError) or (
            isinstance(error.__cause__, APIError) and '"ls"' in str(error)
        ):
            raise EnvironmentFailedError(
                f"the image {name} is not a Triton server: it has no {BACKENDS}",
                remedy="Name an image of NVIDIA's Triton, such as nvcr.io/nvidia/tritonserver:YY.MM-py3",
            ) from error
        raise
    finally:
        remove(client, container)
    return tuple(sorted(listing.decode(errors="replace").split()))
