"""Certificates for tests, made anew with the openssl program: two authorities, servers, a client."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Certificates", "Pair", "make_certificates"]

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    """What a test needs of them.

    Attributes:
        ca: signed everything but ``stranger``.
        other_ca: signed nothing here.
        server: for localhost and 127.0.0.1.
        expired: the same, until yesterday.
        elsewhere: for another host's name.
        client: a client's.
    """

    ca: Pair
    other_ca: Pair
    server: Pair
    expired: Pair
    elsewhere: Pair
    client: Pair


def make_certificates(folder: Path) -> Certificates:
    """Make them all in ``folder``."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed")
    ca = _authority(folder, "ca")
    here = "DNS:localhost,IP:127.0.0.1"
    return Certificates(
        ca=ca,
        other_ca=_authority(folder, "other"),
        server=_signed(folder, "server", ca, here),
        expired=_signed(folder, "expired", ca, here, days=-1),
        elsewhere=_signed(folder, "elsewhere", ca, "DNS:triton.elsewhere.example"),
        client=_signed(folder, "client", ca, "DNS:client"),
    )


def _authority(folder: Path, name: str) -> Pair:
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    names = ["-subj", f"/CN={name}", "-keyout", made.key, "-out", made.certificate]
    _openssl("req", "-x509", *KEY, "-days", "2", *names)
    return made


def _signed(folder: Path, name: str, ca: Pair, names: str, days: int = 2) -> Pair:
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\n")
    _openssl("req", "-new", *KEY, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
    authority = ("-CA", ca.certificate, "-CAkey", ca.key, "-CAcreateserial")
    files = ("-in", request, "-extfile", extensions, "-out", made.certificate)
    _openssl("x509", "-req", *authority, *files, "-days", str(days))
    return made


def _openssl(*arguments: object) -> None:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
