"""Where a model is served: embedded, in a container."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from harness.units import Seconds, WithUnits, listed

__all__ = ["ServerSpec"]

IMAGE = r"^[a-z0-9][A-Za-z0-9._:/@-]{0,254}$"


def _gpus(value: object) -> object:
    """Read ``all``, ``0`` or ``[0, GPU-…]`` as a tuple of words."""
    words = [str(word) for word in value] if isinstance(value, list | tuple) else [str(value)]
    for word in words:
        if not re.fullmatch(r"all|[0-9]{1,3}|(GPU|MIG)-[0-9A-Za-z/-]{1,80}", word):
            raise ValueError("expected all, indices such as [0, 1], or UUIDs such as GPU-8f2d…")
    if "all" in words and len(words) > 1:
        raise ValueError("all stands alone")
    return words


def _environment(value: object) -> object:
    """Accept numbers where text is meant: ``OMP_NUM_THREADS: 1``."""
    if not isinstance(value, dict):
        return value
    return {
        name: str(text) if isinstance(text, int | float) and not isinstance(text, bool) else text
        for name, text in value.items()
    }


VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


class ServerSpec(WithUnits):
    """Where the model is served. What holds for one kind only is refused for the others.

    Attributes:
        kind: ``embedded`` is a real ``tritonserver`` process, no container needed; ``container`` is the
            same in a container of Docker or Podman.
        http_port, grpc_port, metrics_port: 0 picks a free one.
        ready_timeout_s: how long the server, or a model, may take to become ready.
        cpus: the cores that the server may run on, such as [0, 1]; all where empty.
        extra_args: further options of ``tritonserver``, such as ``--cache-config=local,size=1048576``.
        image: (container) the image; NVIDIA's of a pinned release where left out.
        gpus: (container) ``all``, indices or UUIDs; none where left out.
        shm_size_bytes: (container) size of its /dev/shm, where Python stubs keep their tensors.
        memory_bytes: (container) limit on its memory; none where left out. There is no swap beyond it.
        network: (container) ``bridge`` publishes the ports to 127.0.0.1, through a proxy that takes CPU
            time of its own; ``host`` listens there directly.
        env: (container) environment variables. One without a value is passed on from the harness's own
            environment, and its value is written nowhere: the way for a secret.
    """

    kind: Literal["embedded", "container"] = "embedded"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 0
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = 0
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    ready_timeout_s: Seconds = 60.0
    cpus: Annotated[tuple[NonNegativeInt, ...], BeforeValidator(listed)] = ()
    extra_args: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    image: Annotated[str, Field(pattern=IMAGE)] | None = None
    gpus: Annotated[tuple[str, ...], BeforeValidator(_gpus)] = ()
    shm_size_bytes: PositiveInt = 1 << 30
    memory_bytes: PositiveInt | None = None
    network: Literal["bridge", "host"] = "bridge"
    env: Annotated[dict[VariableName, str | None], BeforeValidator(_environment)] = Field(
        default_factory=dict
    )

    @field_validator("image", "gpus", "shm_size_bytes", "memory_bytes", "network", "env")
    @classmethod
    def _of_a_container(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        kind = info.data.get("kind", "container")
        default = cls.model_fields[info.field_name or ""].get_default(call_default_factory=True)
        if kind != "container" and value != default:
            raise PydanticCustomError(
                "other_kind",
                "only a server of kind container has this, and this one is {kind}",
                {"kind": kind},
            )
        return value
