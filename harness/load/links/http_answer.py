"""HTTP/1.1 responses of a KServe v2 server, from bytes to an answer.

Heads are parsed once each: a server that answers a thousand times answers with the same head. What is
not HTTP, or too large, is refused.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.load.answers import Answer, Output, numpy_type
from harness.load.outcomes import FailedRequestError, http_outcome
from harness.records import Outcome

__all__ = [
    "HEAD_END",
    "LARGEST_BODY",
    "LARGEST_HEAD",
    "Head",
    "malformed",
    "parse_head",
    "parse_http",
]

LARGEST_HEAD = 64 * 1024
LARGEST_BODY = 256 * 2**20
LARGEST_JSON_HEADER = 2**20  # before the tensors' bytes; some are kept
UNIQUE = {b"content-length", b"transfer-encoding", b"inference-header-content-length"}
HEAD_END = b"\r\n\r\n"
BODILESS = {204, 304}  # whatever their heads say (RFC 9110, section 6.4.1)
# What a server says of a failure: more than is shown, since secrets in it are found before it is cut.
LONGEST_SAID = 8 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a response says.

    Attributes:
        length: of the body in bytes; ``None`` where it is chunked, or ends with the connection.
        chunked: whether it comes in chunks.
        json_length: of the JSON header that a binary body begins with; ``None`` where all is JSON.
        close: the server closes the connection after it.
    """

    status: int
    length: int | None
    chunked: bool
    json_length: int | None
    close: bool


def malformed(reason: str) -> FailedRequestError:
    """The error for a response that is no HTTP, or none that a model's answer can be."""
    return FailedRequestError(Outcome.OTHER, f"malformed response: {reason}")


@functools.lru_cache(maxsize=256)
def parse_head(head: bytes) -> Head:
    """Parse a response's head, the blank line left out (RFC 9112).

    Raises:
        FailedRequestError: it is malformed, or of a kind that a model's answer never is.
    """
    first, *lines = head.split(b"\r\n")
    match = re.fullmatch(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: .*)?", first)
    if match is None:
        raise malformed(f"it begins with {first[:40]!r}")
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if not colon or not name or name != name.strip():
            raise malformed(f"header line {line[:40]!r}")
        before = fields.setdefault(name, value)
        if before != value and name in UNIQUE:
            raise malformed(f"two different values of {name.decode(errors='replace')}")
        if before != value:  # a list, such as of cookies (RFC 9110, section 5.3)
            fields[name] = before + b", " + value
    coding = fields.get(b"transfer-encoding", b"").lower()
    if coding not in (b"", b"chunked"):
        raise malformed(f"transfer coding {coding[:40]!r}")
    tokens = {token.strip() for token in fields.get(b"connection", b"").lower().split(b",")}
    close = b"close" in tokens or (match[1] == b"0" and b"keep-alive" not in tokens)
    status = int(match[2])
    length = None if coding else _number(fields, b"content-length")
    if status < 200 or status in BODILESS:
        coding, length = b"", 0
    if length is None and not coding:
        close = True  # it ends with the connection (RFC 9112, section 6.3)
    if length is not None and length > LARGEST_BODY:
        raise malformed(f"{length} bytes announced, more than {LARGEST_BODY}")
    json_length = _number(fields, b"inference-header-content-length")
    return Head(status, length, bool(coding), json_length, close)


def _number(fields: dict[bytes, bytes], name: bytes) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if re.fullmatch(rb"[0-9]{1,18}", value) is None:
        raise malformed(f"{name.decode()} {value[:40]!r}")
    return int(value)


@functools.lru_cache(maxsize=256)
def parse_json_header(
    text: bytes,
) -> tuple[str, tuple[tuple[str, str, tuple[int, ...], int], ...]]:
    """Parse the JSON header of a binary answer: the model, and each output's name, datatype, shape, size.

    Raises:
        ValueError: it is none.
    """
    try:
        header = json.loads(text)
        outputs = tuple(
            (
                str(output["name"]),
                str(output["datatype"]),
                tuple(int(size) for size in output["shape"]),
                int(output["parameters"]["binary_data_size"]),
            )
            for output in header["outputs"]
        )
        return str(header["model_name"]), outputs
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__} {error}") from error


def parse_http(raw: bytes) -> Answer:
    """Turn a whole response, as :meth:`harness.load.links.http_link.HttpLink.exchange` returns it, into an answer.

    Raises:
        FailedRequestError: its status is not 200, or it is not the answer of a model.
    """
    end = raw.find(HEAD_END)
    head = parse_head(raw[:end])
    body = raw[end + len(HEAD_END) :]
    if head.status != 200:
        text = body[:LONGEST_SAID].decode(errors="replace")
        raise FailedRequestError(http_outcome(head.status, text), f"HTTP {head.status}: {text}")
    try:
        if head.json_length is None:
            return _json_answer(body)
        if head.json_length > LARGEST_JSON_HEADER:
            raise ValueError(f"a JSON header of {head.json_length} bytes")
        model, shapes = parse_json_header(body[: head.json_length])
        place = head.json_length
        outputs = []
        for name, datatype, shape, size in shapes:
            if size < 0 or place + size > len(body):
                raise ValueError(f"output {name} reaches beyond the body")
            outputs.append(Output(name, datatype, shape, body[place : place + size]))
            place += size
        if place != len(body):
            raise ValueError(f"{len(body) - place} bytes that belong to no output")
    except ValueError as error:
        reason = f"status 200 and no answer of a model ({error})"
        raise FailedRequestError(Outcome.WRONG_ANSWER, reason) from error
    return Answer(model, tuple(outputs))


def _json_answer(body: bytes) -> Answer:
    """An answer whose tensors stand in its JSON, as a server without the binary extension sends it."""
    try:
        answer: dict[str, Any] = json.loads(body)
        outputs = []
        for output in answer["outputs"]:
            kind = numpy_type(output["datatype"])
            if kind is None:
                raise ValueError(f"datatype {output['datatype']} in JSON")
            # Where all outputs are empty, Triton does not say that any of the body is binary.
            empty = output.get("parameters", {}).get("binary_data_size") == 0
            data = b"" if empty else np.asarray(output["data"]).astype(kind).tobytes()
            shape = tuple(int(size) for size in output["shape"])
            outputs.append(Output(str(output["name"]), str(output["datatype"]), shape, data))
        return Answer(str(answer["model_name"]), tuple(outputs))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__} {error}") from error
