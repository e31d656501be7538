"""The frames of HTTP/2 (RFC 9113, sections 4 to 6), and headers as the bytes in them (HPACK, RFC 7541)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import hpack

from harness.load.links.http_answer import malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ACK",
    "CANCEL",
    "CONTINUATION",
    "DATA",
    "ENABLE_PUSH",
    "END_HEADERS",
    "END_STREAM",
    "FIRST_FRAME",
    "FIRST_WINDOW",
    "FRAME",
    "FRAME_BYTES",
    "GOAWAY",
    "GOODBYE",
    "HEADERS",
    "HEADER_TABLE_SIZE",
    "INITIAL_WINDOW_SIZE",
    "LARGEST_FRAME",
    "LARGEST_WINDOW",
    "LAST_STREAM",
    "MAX_FRAME_SIZE",
    "NO_TABLE",
    "NUMBER",
    "PADDED",
    "PING",
    "PING_BYTES",
    "PREFACE",
    "PRIORITY",
    "PUSH_PROMISE",
    "RESERVED",
    "RST_STREAM",
    "SETTING",
    "SETTINGS",
    "WINDOW_UPDATE",
    "frame",
    "header_block",
    "unpadded",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME = struct.Struct(">HBBBL")  # length (in two pieces), type, flags, stream
FRAME_BYTES = 9
SETTING = struct.Struct(">HL")
NUMBER = struct.Struct(">L")
GOODBYE = struct.Struct(">LL")  # the last stream that is heeded, and why
PING_BYTES = 8

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE = 0, 1, 3, 4, 5
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 4, 5
CANCEL = 8  # why a stream is reset
NO_TABLE = b"\x20"  # a dynamic table size update to 0: right whatever the other side allows
RESERVED = 0x7FFF_FFFF  # takes the reserved bit off a number

FIRST_WINDOW = 65_535  # of both sides, until they say otherwise
LARGEST_WINDOW = 2**31 - 1
FIRST_FRAME = 16_384
LARGEST_FRAME = 2**20  # of those that we send and take
LAST_STREAM = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    size = len(payload)
    return FRAME.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def unpadded(flags: int, payload: bytes) -> bytes:
    """A frame's payload without its padding, and without its priority."""
    if not flags & (PADDED | PRIORITY):
        return payload
    padding = payload[0] if flags & PADDED and payload else 0
    start = (1 if flags & PADDED else 0) + (5 if flags & PRIORITY else 0)
    if start + padding > len(payload):
        raise malformed("more padding than frame")
    return payload[start : len(payload) - padding]


def header_block(fields: Sequence[tuple[str, str]]) -> bytes:
    """Headers as bytes that mean the same in every call: they begin by giving up the table, and fill none."""
    never = [hpack.NeverIndexedHeaderTuple(name, value) for name, value in fields]
    return NO_TABLE + bytes(hpack.Encoder().encode(never))
