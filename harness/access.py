"""How to be let in by a server that somebody else runs: TLS, and headers whose values are secrets.

A secret is known by the name of the environment variable that holds it. Its value is looked up where it is
sent, travels to child processes in their environment alone, and is taken out of every text that a server
sends back.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import EnvironmentFailedError, UsageError

__all__ = ["OPEN", "Access", "handshake", "tls_reason"]

SHORTEST_SECRET = 4  # shorter ones stand in ordinary words, too
# What may stand in a header: no control characters, so that no header can be smuggled in.
SENDABLE = re.compile(r"[\x20-\x7e\x80-\xff]+")
PLAIN = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "RECORD_LAYER_FAILURE")


@dataclass(frozen=True)
class Access:
    """What a server asks of those who come; nothing where left out.

    Attributes:
        http_tls, grpc_tls: whether the endpoint speaks TLS.
        ca: file of the certificates to trust (PEM); the system's where ``None``.
        certificate, key: files of the client's own certificate and its key (PEM).
        token_env: environment variable of a bearer token.
        headers: pairs of a header's name and the environment variable of its value.
    """

    http_tls: bool = False
    grpc_tls: bool = False
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    token_env: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, without any secret."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Access:
        """The inverse of :meth:`to_json`."""
        return cls(**{**data, "headers": tuple((name, env) for name, env in data["headers"])})

    def header_values(self) -> dict[str, str]:
        """The headers with their values, by name in lower case: secrets.

        Raises:
            UsageError: a variable is not set, or holds what no header can.
        """
        values = {name.lower(): _secret(variable, name) for name, variable in self.headers}
        if self.token_env:
            values["authorization"] = "Bearer " + _secret(self.token_env, "token")
        return values

    def redacted(self, text: str) -> str:
        """The text without any secret that a server may have echoed."""
        variables = [variable for _, variable in self.headers]
        for variable in [*variables, *([self.token_env] if self.token_env else [])]:
            secret = os.environ.get(variable, "").strip()
            if len(secret) >= SHORTEST_SECRET:
                text = re.sub("".join(map(_written, secret)), "***", text)
        return text

    def tls_context(self) -> ssl.SSLContext:
        """What verifies the server's certificate and name, and shows the client's.

        Raises:
            UsageError: a file is missing, or not what it should be.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise _unusable("the certificates to trust", self.ca or "", error) from error
        if self.certificate:
            try:
                # Without a password's callback, a key that needs one would be asked for on the terminal.
                context.load_cert_chain(self.certificate, self.key, password=lambda: "")
            except (OSError, ssl.SSLError) as error:
                own = "the client's certificate or its key"
                raise _unusable(own, self.certificate, error) from error
        return context

    def certificates(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The contents of the files, as gRPC takes them: to trust, the client's key, its certificate.

        Raises:
            UsageError: a file is missing, or not what it should be.
        """
        self.tls_context()  # says what is wrong with a file: gRPC only fails to connect
        key = self.key or self.certificate
        ca, own_key, own = (
            Path(file).read_bytes() if file else None for file in (self.ca, key, self.certificate)
        )
        return ca, own_key if own else None, own


def _written(character: str) -> str:
    """A pattern of a character as it stands in a text, or within JSON, which may escape any of them by its number."""
    within = rf"|\\{re.escape(character)}" if character in '"\\/' else ""
    return rf"(?:{re.escape(character)}|\\u(?i:{ord(character):04x}){within})"


OPEN = Access()  # of a server that asks for nothing


def _secret(variable: str, what: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UsageError(
            f"the variable {variable}, which holds the {what} to send, is not set",
            where="server",
            remedy=f"Set it with: export {variable}=…",
        )
    if SENDABLE.fullmatch(value) is None:
        raise UsageError(
            f"the variable {variable} holds characters that no header can", where="server"
        )
    return value


def _unusable(what: str, path: str, error: Exception) -> UsageError:
    reason = (
        error.strerror if isinstance(error, OSError) else None
    ) or "not PEM, or not of one pair"
    if isinstance(error, ssl.SSLError):
        reason = f"not PEM, encrypted, or not of one pair ({error.reason or 'unknown'})"
    return UsageError(f"{what} cannot be used: {reason}", where=f"server.tls, {path}")


def tls_reason(error: OSError) -> str:
    """Say in words why there is no TLS connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message.rstrip(".")
        return f"its certificate is not accepted: {said[:1].lower()}{said[1:]}"
    if isinstance(error, ssl.SSLError):
        name = error.reason or ""
        if any(part in name for part in PLAIN) or isinstance(error, ssl.SSLEOFError):
            return "the port does not speak TLS"
        if "CERTIFICATE_REQUIRED" in name or "BAD_CERTIFICATE" in name or "UNKNOWN_CA" in name:
            return "it does not accept the client's certificate, or wants one"
        return f"TLS failed ({name or error})"
    return str(error.strerror or error)


def handshake(host: str, port: int, access: Access, *, timeout_s: float, protocol: str) -> None:
    """Connect over TLS and hang up: says plainly what gRPC hides in its errors.

    Args:
        host: where to.
        port: likewise.
        access: whom to trust, and what to show.
        timeout_s: for all of it.
        protocol: as in TLS's ALPN, such as ``h2``.

    Raises:
        EnvironmentFailedError: nobody is there, or the two do not agree.
    """
    context = access.tls_context()
    context.set_alpn_protocols([protocol])
    where = f"{host}:{port}"
    try:
        with (
            socket.create_connection((host, port), timeout_s) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            pass
    except OSError as error:
        raise EnvironmentFailedError(tls_reason(error), where=where, remedy=REMEDY) from error


REMEDY = "Look at server.tls, the host's name and the port"
