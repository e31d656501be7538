"""Make the image that container tests run: the real Triton, laid out as in NVIDIA's, out of local parts.

    python tests/image/build.py        prints the image's name, and on stderr how long it took;
                                       at once where it is there already

There is no registry where the tests run, and NVIDIA's image is 15 GB. This one takes its system from
about 25 Debian 12 packages and its server from the packages that the embedded server is pinned to, in the
folders where NVIDIA's image has them. **It holds the Python backend and no other**, and says so in its
name. Needs apt, dpkg-deb, pip and a Docker engine (``DOCKER_HOST`` is respected).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound

NAME = "triton-harness-test"
TAG = "2.51-python-only"
PINS = Path(__file__).parents[2] / "harness" / "servers" / "embedded" / "environment.txt"
DIGEST = "io.triton-harness.test-image"  # the label that says what it was made from
PYTHON = "3.11"  # Debian 12's
PACKAGES = [
    *("base-files", "bash", "busybox-static", "netbase"),
    *("libc6", "libgcc-s1", "libstdc++6", "libcrypt1", "libtinfo6", "zlib1g"),
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"),
    *(f"python{PYTHON}", f"libpython{PYTHON}", "python3-minimal"),
    *("libexpat1", "libffi8", "libssl3", "libbz2-1.0", "liblzma5", "libuuid1", "libsqlite3-0"),
    *("libncursesw6", "libreadline8"),
]
MERGED = ("bin", "lib", "lib64", "sbin")  # links into /usr, as on every Debian 12
UNNEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")
# As NVIDIA's image: what it sets, and a banner before the command.
ENVIRONMENT = {
    "PATH": "/opt/tritonserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TRITON_SERVER_VERSION": "2.51.0",
    "NVIDIA_TRITON_SERVER_VERSION": "24.10",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "LANG": "C.UTF-8",
}
ENTRYPOINT = """\
#!/bin/bash
echo "== Triton Inference Server ${TRITON_SERVER_VERSION}: a local image for tests, Python backend only =="
exec "$@"
"""


def main() -> None:
    start = time.monotonic()
    client = docker.from_env(timeout=300)
    name = f"{NAME}:{TAG}"
    parts = Path(__file__).read_bytes() + PINS.read_bytes()
    digest = hashlib.sha256(parts).hexdigest()
    former = None
    try:
        former = client.images.get(name)
        if former.labels.get(DIGEST) == digest:
            print(name)  # noqa: T201 - what this script is for
            return
    except ImageNotFound:
        pass
    with tempfile.TemporaryDirectory(prefix="triton-harness-image-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        unpack_system(root, Path(folder))
        lay_out_server(root, Path(folder))
        bring_in(client, root, Path(folder) / "image.tar", digest)
    if former is not None:
        with contextlib.suppress(APIError):  # a container may still use it
            client.images.remove(former.id)
    print(f"made the image {name} in {time.monotonic() - start:.0f} s", file=sys.stderr)  # noqa: T201
    print(name)  # noqa: T201 - what this script is for


def run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout[-2000:]}")


def unpack_system(root: Path, scratch: Path) -> None:
    """Debian's packages, unpacked and not configured: nothing of them needs to be."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    packages = scratch / "packages"
    packages.mkdir()
    unsandboxed = ("-o", "APT::Sandbox::User=root")  # the folder is ours alone
    run("apt-get", "-qq", *unsandboxed, "download", *PACKAGES, cwd=packages)
    for package in sorted(packages.iterdir()):
        archive = scratch / "package.tar"
        with archive.open("wb") as file:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, stdout=file)
        # dpkg-deb --extract would put folders in the place of the links.
        run("tar", "--extract", "--keep-directory-symlink", "--file", archive, "--directory", root)
    for name in UNNEEDED:
        shutil.rmtree(root / name, ignore_errors=True)
    busybox = root / "bin" / "busybox"
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    for applet in applets.stdout.split():
        place = root / "usr" / "bin" / applet
        if not place.exists() and not place.is_symlink():
            place.symlink_to("busybox")
    for name in ("tmp", "dev", "proc", "sys", "root", "models"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (root / "etc" / "group").write_text("root:x:0:\n")


def lay_out_server(root: Path, scratch: Path) -> None:
    """The server where NVIDIA's image has it; its libraries look for each other from the folder above."""
    site = root / "usr" / "local" / "lib" / f"python{PYTHON}" / "dist-packages"
    fetched = scratch / "site"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    pinned = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--no-compile", "-r", PINS)
    run(*pip, *pinned, "--python-version", PYTHON, "--target", fetched)
    wheel = fetched / "pytriton" / "tritonserver"
    server = root / "opt" / "tritonserver"
    server.mkdir(parents=True)
    for folder in ("bin", "backends", "caches"):
        shutil.move(wheel / folder, server / folder)
    stub = wheel / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    shutil.move(stub, server / "backends" / "python")
    shutil.move(fetched / "nvidia_pytriton.libs", server / "lib")
    for other in server.glob("lib/libpython*"):
        other.unlink()  # of stubs for other Pythons
    (root / "nvidia_pytriton.libs").symlink_to("opt/tritonserver/lib")
    for program in (server / "bin" / "tritonserver", server / "backends/python" / stub.name):
        program.chmod(0o755)
    site.mkdir(parents=True, exist_ok=True)
    for package in ("numpy", "numpy.libs", "onnxruntime"):
        shutil.move(fetched / package, site / package)
    for metadata in fetched.glob("*.dist-info"):
        if not metadata.name.startswith("nvidia_pytriton"):
            shutil.move(metadata, site / metadata.name)
    for tests in site.glob("numpy/**/tests"):
        shutil.rmtree(tests)
    entrypoint = root / "opt" / "nvidia" / "nvidia_entrypoint.sh"
    entrypoint.parent.mkdir(parents=True)
    entrypoint.write_text(ENTRYPOINT)
    entrypoint.chmod(0o755)


def bring_in(client: docker.DockerClient, root: Path, archive: Path, digest: str) -> None:
    def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    with tarfile.open(archive, "w") as tar:
        tar.add(root, ".", filter=owned_by_root)
    changes = [f'ENV {name}="{value}"' for name, value in ENVIRONMENT.items()]
    changes += [
        'ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]',
        "WORKDIR /opt/tritonserver",
        f"LABEL {DIGEST}={digest}",
    ]
    answer = client.api.import_image(str(archive), repository=NAME, tag=TAG, changes=changes)
    if '"error"' in answer:
        sys.exit(f"the engine did not take the image: {answer}")
    # Podman's socket drops the tag of what it imports.
    imported = json.loads(answer.strip().splitlines()[-1])["status"]
    client.api.tag(imported, NAME, TAG)


if __name__ == "__main__":
    main()
