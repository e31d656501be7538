"""A Triton that somebody else runs, for tests that attach to it; and an HTTPS proxy before it."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from harness.access import Access
from harness.errors import EnvironmentFailedError
from harness.repository.probes import PROBE
from harness.scenario import ServerSpec
from harness.servers import serving
from harness.servers.control import Control
from harness.servers.ports import choose_ports
from harness.servers.server import Endpoints
from harness.servers.staging import staged
from tests.footprint import SHARED_MEMORY, listens, values, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.servers.server import Server
    from tests.certificates import Certificates

__all__ = ["ADMIN", "BROKEN", "MODELS", "OWN_BATCHING", "Somebody", "https_proxy", "somebody"]

# What the owner has set and no sweep would. One instance: where several Python stubs start at once on a
# busy machine, one of Triton 2.51's now and then dies (boost's lock_exception), and the load never ends.
OWN_BATCHING = {"preferred_batch_size": [64], "max_queue_delay_microseconds": 321}
MODELS = Path(__file__).parent / "models"
OPENS_ONNX = """\
import onnxruntime


class TritonPythonModel:
    def initialize(self, args):
        onnxruntime.InferenceSession(args["model_repository"] + "/1/model.onnx")
"""
# Models that do not load: the file that is wrong, and what is in it.
BROKEN = {
    "broken": ("1/model.py", "raise ImportError('no module named nosuchlibrary')"),
    "bad_onnx": ("1/model.py", OPENS_ONNX),
    "bad_config": ("config.pbtxt", 'name: "bad_config" backend: {'),
    "no_backend": ("config.pbtxt", 'name: "no_backend" backend: "nosuch" max_batch_size: 4'),
}
# Who sends this header may load models, by ``--grpc-restricted-protocol``.
ADMIN = "let-me-load-models"
ADMIN_HEADER = "triton-grpc-protocol-admin"
REGIONS = "--backend-config=python,shm-region-prefix-name"
RESTRICTED = f"--grpc-restricted-protocol=model-repository:admin={ADMIN}"


@dataclass
class Somebody:
    """A server with what its owner has loaded."""

    server: Server
    control: Control

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return next(pid for role, pid in self.server.processes() if role == "server")

    def state(self) -> dict[str, Any]:
        """Everything that a visitor may have changed: each loaded model with its configuration."""
        found = {}
        for name in filter(self.has_loaded, ("identity", "null", *BROKEN, PROBE)):
            with suppress(EnvironmentFailedError):  # a visitor has just unloaded it
                found[name] = self.control.effective_configuration(name)
        return found

    def holdings(self) -> tuple[int, int]:
        """How many stubs and regions of shared memory it has; those of a former configuration linger."""
        prefix = values(psutil.Process(self.pid).cmdline(), REGIONS)[0]
        regions = [entry for entry in SHARED_MEMORY.iterdir() if entry.name.startswith(prefix)]
        return [role for role, _ in self.server.processes()].count("stub"), len(regions)

    def has_loaded(self, model: str) -> bool:
        """Whether a model is loaded."""
        try:
            return self.control.is_model_ready(model)
        except EnvironmentFailedError:
            return False

    def probed(self) -> bool:
        """Whether a probe is loaded, which no index lists."""
        return self.has_loaded(PROBE)

    def scenario(self, *, admin: bool = True, **server: object) -> str:
        """The server's part of a scenario."""
        at = self.server.endpoints
        ports = {"http_port": at.http_port, "grpc_port": at.grpc_port}
        words = {"kind": "remote", "host": "127.0.0.1", **ports, **server}
        if admin:
            words["headers"] = f"{{{ADMIN_HEADER}: {{env: TEST_ADMIN}}}}"
        return f"server: {{{', '.join(f'{key}: {value}' for key, value in words.items())}}}\n"


@contextmanager
def somebody(
    logs: Path,
    *,
    ports: dict[str, int] | None = None,
    extra_args: tuple[str, ...] = (RESTRICTED,),
    access: Access | None = None,
    loaded: bool = True,
) -> Iterator[Somebody]:
    """Run a Triton with ``identity`` loaded in a way of its own; ``null``, which is not, and some that cannot be."""
    ports = ports or choose_ports({"http": 0, "grpc": 0, "metrics": 0})
    spec = ServerSpec.model_validate(
        {f"{name}_port": port for name, port in ports.items()} | {"extra_args": extra_args}
    )
    access = access or Access(headers=((ADMIN_HEADER, "TEST_ADMIN"),))
    with ExitStack() as stack:
        folders = {name: MODELS / name for name in ("identity", "null")}
        folders |= {name: broken(logs, name) for name in BROKEN}
        repository = stack.enter_context(staged(folders, "somebody"))
        server = stack.enter_context(serving(spec, repository, logs=logs, run_id="somebody"))
        at = server.endpoints
        mine = Endpoints(at.host, at.http_port, at.grpc_port, at.metrics_port, access)
        control = stack.enter_context(Control(mine))
        if loaded:
            load_as_owner(control)
        yield Somebody(server, control)


def broken(folder: Path, name: str) -> Path:
    """A model that does not load."""
    target = folder / name
    if not target.exists():
        shutil.copytree(MODELS / "null", target)
        config = target / "config.pbtxt"
        config.write_text(config.read_text().replace('"null"', f'"{name}"'))
        file, text = BROKEN[name]
        (target / file).write_text(text)
        (target / "1" / "model.onnx").write_bytes(b"no ONNX")
    return target


def load_as_owner(control: Control) -> None:
    """Load ``identity`` as no sweep would, so that it shows whether it was put back."""
    control.load("identity", deadline_s=30)
    own = control.effective_configuration("identity")
    own["dynamic_batching"] = OWN_BATCHING
    control.load("identity", own, deadline_s=30)


@contextmanager
def https_proxy(
    folder: Path, upstream: int, made: Certificates, token: str
) -> Iterator[dict[str, int]]:
    """Run nginx before a server: HTTPS with a good, an expired and another host's certificate.

    The good one wants a bearer token and a client's certificate.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed (Debian: nginx-light)")
    ports = choose_ports({"good": 0, "expired": 0, "elsewhere": 0})
    guard = (
        f"ssl_client_certificate {made.ca.certificate}; ssl_verify_client on;"
        f' if ($http_authorization != "Bearer {token}") {{ return 401; }}'
    )
    pairs = {"good": made.server, "expired": made.expired, "elsewhere": made.elsewhere}
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{ports[name]} ssl; ssl_certificate {pair.certificate};"
        f" ssl_certificate_key {pair.key}; {guard if name == 'good' else ''}"
        " location / { proxy_pass http://triton; proxy_http_version 1.1;"
        ' proxy_set_header Connection ""; } }'
        for name, pair in pairs.items()
    )
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{ }}\nhttp {{ access_log off; client_max_body_size 0; {temporary}\n"
        f"upstream triton {{ server 127.0.0.1:{upstream}; keepalive 16; }}\n{servers}\n}}\n"
    )
    process = subprocess.Popen(
        [nginx, "-p", str(folder), "-c", str(config)], stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: listens(ports["good"]) or process.poll() is not None, 60, "nginx")
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        yield ports
    finally:
        process.terminate()
        process.wait(60)
        if process.stderr:
            process.stderr.close()
