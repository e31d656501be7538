"""Where a model is served: embedded, in a container, or by somebody else."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.access import Access
from harness.point import Frozen, Whole
from harness.units import Count, Cpus, Seconds, WithUnits, listed

__all__ = ["LAST_WITH_TENSORFLOW", "RateLimiter", "ServerSpec", "TlsSpec", "TraceSpec"]

HOST = r"^(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,45})$"
# The last release of Triton's container images with the TensorFlow backend.
LAST_WITH_TENSORFLOW = "25.02"
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
ResourceName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
# What the harness itself says in a request's head.
OWN_HEADERS = ("host", "connection", "content-", "transfer-", "accept", "te", "inference-header-")


# The kinds that a field is for, where it is not for all.
KINDS_THAT_HAVE = {
    "log_verbose": ("embedded", "container"),
    "trace": ("embedded",),
    **dict.fromkeys(
        ("cpus", "extra_args", "memory_bytes", "response_cache_bytes", "rate_limiter"),
        ("embedded", "container"),
    ),
    **dict.fromkeys(("image", "gpus", "shm_size_bytes", "network", "env"), ("container",)),
    **dict.fromkeys(("host", "tls", "token_env", "headers"), ("remote",)),
}


class FromEnvironment(Frozen):
    """A value that stands in an environment variable, and nowhere else."""

    env: VariableName


def _headers(value: object) -> object:
    """Refuse a value that is written out: the file goes into the archive."""
    if not isinstance(value, dict):
        return value
    for name, source in value.items():
        if not isinstance(source, dict | FromEnvironment):
            raise PydanticCustomError(
                "written_secret",
                "the value of {name} must not stand in the scenario, which is archived",
                {"name": str(name)},
            )
        if str(name).lower().startswith(OWN_HEADERS):
            raise PydanticCustomError(
                "own_header", "the header {name} is the harness's own", {"name": str(name)}
            )
    return value


class TlsSpec(Frozen):
    """How a remote server is reached over TLS; its certificate and its name are always verified.

    Attributes:
        ca: file of the certificates to trust (PEM); the system's where left out.
        certificate, key: the client's own certificate and its key (PEM), where the server asks for one.
        http, grpc: whether that endpoint speaks TLS. Triton's own HTTP does not: a proxy before it does.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    http: bool = True
    grpc: bool = True

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if self.key and not self.certificate:
            raise ValueError("a key without its certificate: give both")
        return self


class RateLimiter(Frozen):
    """Triton's rate limiter: an execution waits until the resources that it takes are free.

    Attributes:
        resources: what each execution of each instance takes, by name.
        available: how much of each there is; as much as one execution takes where left out.
        priority: of the model against others; 2 gets half the executions of 1.
    """

    resources: Annotated[dict[ResourceName, Count], Field(min_length=1)]
    available: dict[ResourceName, Count] = Field(default_factory=dict)
    priority: Count = 1

    @model_validator(mode="after")
    def _enough(self) -> Self:
        for name, there in self.available.items():
            if there < self.resources.get(name, 0):
                raise ValueError(
                    f"an execution takes {self.resources[name]} of {name}, more than there is"
                )
        return self


class TraceSpec(Frozen):
    """Which requests the server traces, as its trace settings have it. It costs the server time.

    Attributes:
        level: ``timestamps``, or ``tensors``, which also writes what went in and out.
        rate: one request in so many.
        count: at most so many, so that they do not fill the disk.
    """

    level: Literal["timestamps", "tensors"] = "timestamps"
    rate: Count = 1000
    count: Annotated[Whole, Field(ge=1, le=1_000_000)] = 1000


class ServerSpec(WithUnits):
    """Where the model is served. What holds for one kind only is refused for the others.

    Attributes:
        kind: ``embedded`` is a real ``tritonserver`` process, no container needed; ``container`` is the
            same in a container of Docker or Podman; ``remote`` is one that somebody else runs.
        http_port, grpc_port, metrics_port: 0 picks a free one; of a remote server, Triton's standard
            ports, 8000, 8001 and 8002, as far as they answer; where ``http_port`` is given, only what is
            given with it.
        ready_timeout_s: how long the server, or a model, may take to become ready.
        cpus: the cores that the server may run on, such as [0, 1]; all where empty.
        extra_args: further options of ``tritonserver``, such as ``--cache-config=local,size=1048576``.
        memory_bytes: limit on the memory of the server and its stubs; none where left out. There is no swap
            beyond it.
        response_cache_bytes: size of the response cache (``local``), which then answers what was asked before;
            off where left out.
        rate_limiter: what Triton's rate limiter holds executions to; off where left out.
        log_verbose: (embedded, container) how much the server logs beside the usual: 1 is every request.
        trace: (embedded) when single requests were where in the server, in ``logs/trace.json.0`` of the run.
        image: (container) the image; NVIDIA's of a pinned release where left out.
        gpus: (container) ``all``, indices or UUIDs; none where left out.
        shm_size_bytes: (container) size of its /dev/shm, where Python stubs keep their tensors.
        network: (container) ``bridge`` publishes the ports to 127.0.0.1, through a proxy that takes CPU
            time of its own; ``host`` listens there directly.
        env: (container) environment variables. One without a value is passed on from the harness's own
            environment, and its value is written nowhere: the way for a secret.
        host: (remote) its name or address.
        tls: (remote) certificates; no TLS where left out.
        token_env: (remote) the environment variable that holds a bearer token.
        headers: (remote) headers to send, each ``{env: VARIABLE}``.
    """

    kind: Literal["embedded", "container", "remote"] = "embedded"
    http_port: Annotated[Whole, Field(ge=0, le=65535)] = 0
    grpc_port: Annotated[Whole, Field(ge=0, le=65535)] = 0
    metrics_port: Annotated[Whole, Field(ge=0, le=65535)] = 0
    ready_timeout_s: Seconds = 60.0
    cpus: Cpus = ()
    extra_args: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    response_cache_bytes: Count | None = None
    rate_limiter: RateLimiter | None = None
    log_verbose: Annotated[Whole, Field(ge=0, le=9)] = 0
    trace: TraceSpec | None = None
    image: Annotated[str, Field(pattern=IMAGE)] | None = None
    gpus: Annotated[tuple[str, ...], BeforeValidator(_gpus)] = ()
    shm_size_bytes: Count = 1 << 30
    memory_bytes: Count | None = None
    network: Literal["bridge", "host"] = "bridge"
    env: Annotated[dict[VariableName, str | None], BeforeValidator(_environment)] = Field(
        default_factory=dict
    )
    host: Annotated[str, Field(pattern=HOST)] | None = None
    tls: TlsSpec | None = None
    token_env: VariableName | None = None
    headers: Annotated[dict[HeaderName, FromEnvironment], BeforeValidator(_headers)] = Field(
        default_factory=dict
    )

    @property
    def arguments(self) -> tuple[str, ...]:
        """The options that turn on what this asks for, and the user's own after them."""
        arguments = []
        if self.response_cache_bytes is not None:
            arguments.append(f"--cache-config=local,size={self.response_cache_bytes}")
        if (limiter := self.rate_limiter) is not None:
            arguments.append("--rate-limit=execution_count")
            arguments += [
                f"--rate-limit-resource={name}:{count}" for name, count in limiter.available.items()
            ]
        return (*arguments, *self.extra_args)

    @property
    def access(self) -> Access:
        """What the server asks of those who come, without any secret."""
        tls = self.tls
        return Access(
            http_tls=tls is not None and tls.http,
            grpc_tls=tls is not None and tls.grpc,
            ca=tls.ca if tls else None,
            certificate=tls.certificate if tls else None,
            key=tls.key if tls else None,
            token_env=self.token_env,
            headers=tuple((name, source.env) for name, source in self.headers.items()),
        )

    @field_validator(*KINDS_THAT_HAVE)
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        name = info.field_name or ""
        kind, having = info.data.get("kind"), KINDS_THAT_HAVE[name]
        default = cls.model_fields[name].get_default(call_default_factory=True)
        if kind is not None and kind not in having and value != default:
            raise PydanticCustomError(
                "other_kind",
                "only a server of kind {having} has this, and this one is {kind}",
                {"having": " or ".join(having), "kind": kind},
            )
        return value

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.kind == "remote" and self.host is None:
            raise ValueError("a remote server needs its host: give host, a name or an address")
        return self
