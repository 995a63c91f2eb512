"""The protocol of the codec service, version 1: what clients ask and are answered, in either of two forms.

    JSON   header {"crlsc": 1, "op": "encode", "id": ..., metadata} | bytes
           answer {"crlsc": 1, "ok": true,     "id": ..., metadata} | bytes
           or     {"crlsc": 1, "ok": false,    "id": ..., "error": code, "reason": line}
    PDU    one part, a serialised PMT pair of metadata and u8vector, as GNU Radio's ZMQ message blocks send it: an image
           asks for a frame, a frame for an image. An error is a skip event.

Metadata and bytes are those of :mod:`crlsc_phy.net.messages` in both. An answer has the form of its request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crlsc_phy.errors import ServiceError
from crlsc_phy.net import pmt_wire
from crlsc_phy.net.messages import Data, Meta
from crlsc_phy.net.pmt_wire import Pair

__all__ = [
    "DEFAULT_ADDRESS",
    "LARGEST_PART",
    "VERSION",
    "JsonMessage",
    "PduMessage",
    "RefusedError",
    "Request",
    "message_of",
    "pack",
    "unpack",
]

VERSION = 1
DEFAULT_ADDRESS = "tcp://127.0.0.1:8424"
LARGEST_PART = 4 << 20
"""Bytes of a part; an image of 1024 x 1024 pixels has 3 MiB. libzmq hangs up on whoever sends more."""
LARGEST_HEADER = 1 << 18

# How many parts each operation has.
_PARTS = {"encode": 2, "decode": 2, "stats": 1}
_LONGEST_REASON = 400
_NO_DATA: Data = np.zeros(0, np.uint8)


class RefusedError(Exception):
    """A request that is answered with an error code and a line that says why.

    Attributes:
        code: ``version``, ``operation``, ``message``, ``image``, ``frame``, ``busy``, ``timeout``, ``stopping`` or
            ``internal``.
    """

    def __init__(self, code: str, reason: str) -> None:
        # It may quote what a stranger has sent.
        super().__init__("".join(c if c.isprintable() else "?" for c in " ".join(reason[:_LONGEST_REASON].split())))
        self.code = code


@dataclass(frozen=True)
class Request:
    """What a client asks for.

    Attributes:
        operation: ``encode``, ``decode``, ``stats``, or ``event`` for one that is to come back as it is.
        meta, data: As in :mod:`crlsc_phy.net.messages`.
    """

    operation: str
    meta: Meta
    data: Data = field(default_factory=lambda: _NO_DATA)


class JsonMessage:
    """A request of JSON header and bytes."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts
        self._id: Any = None

    def read(self) -> Request:
        """What is asked for.

        Raises:
            RefusedError: If it is no request of this version.
        """
        try:
            meta, data = unpack(self._parts)
        except ServiceError as error:
            raise RefusedError("message", str(error)) from None
        self._id = meta.pop("id", None)
        version, operation = meta.pop("crlsc", None), meta.pop("op", None)
        if version != VERSION:
            raise RefusedError("version", f"message has protocol version {version!r:.20}; this service has {VERSION}")
        if not isinstance(operation, str) or operation not in _PARTS:
            raise RefusedError("operation", f"no operation {operation!r:.40}; choose {', '.join(_PARTS)}")
        if len(self._parts) != _PARTS[operation]:
            raise RefusedError("message", f"{operation} takes {_PARTS[operation]} parts, not {len(self._parts)}")
        return Request(operation, meta, data)

    def answer(self, meta: Meta, data: Data) -> list[bytes]:
        """The parts of an answer."""
        return pack({**meta, "crlsc": VERSION, "ok": True, "id": self._id}, data)

    def refuse(self, error: RefusedError) -> list[bytes]:
        """The parts of an error."""
        answer = {"crlsc": VERSION, "ok": False, "id": self._id, "error": error.code, "reason": str(error)}
        return pack(answer, _NO_DATA)


class PduMessage:
    """A request that is a serialised PDU or event."""

    def __init__(self, part: bytes) -> None:
        self._part = part
        self._sequence: Meta = {}

    def read(self) -> Request:
        """What is asked for.

        Raises:
            RefusedError: If it is no PDU.
        """
        try:
            value = pmt_wire.decode(self._part)
        except ServiceError as error:
            raise RefusedError("message", str(error)) from None
        meta = value.car if isinstance(value, Pair) else None
        if not isinstance(meta, dict) or not all(isinstance(key, str) for key in meta):
            raise RefusedError("message", "PMT is no PDU: it must be a pair of a dictionary and a u8vector")
        if isinstance(meta.get("sequence"), int):
            self._sequence = {"sequence": meta["sequence"]}
        if value.cdr is None and isinstance(meta.get("event"), str):
            return Request("event", meta)
        if not isinstance(value.cdr, np.ndarray) or value.cdr.dtype != np.uint8:
            raise RefusedError("message", "PMT is no PDU: its second half must be a u8vector")
        return Request("encode" if "height" in meta else "decode", meta, value.cdr)

    def answer(self, meta: Meta, data: Data) -> list[bytes]:
        """The part of an answer."""
        return [pmt_wire.encode(Pair(meta, data if data.size else None))]

    def refuse(self, error: RefusedError) -> list[bytes]:
        """The part of an error: a skip event."""
        event = {"event": "skip", **self._sequence, "reason": str(error), "error": error.code}
        return [pmt_wire.encode(Pair(event, None))]


def message_of(parts: list[bytes]) -> JsonMessage | PduMessage:
    """The form that a message of a client has: no PMT begins like a JSON header."""
    if len(parts) == 1 and not parts[0].startswith(b"{"):
        return PduMessage(parts[0])
    return JsonMessage(parts)


def pack(header: Meta, data: Data) -> list[bytes]:
    """The parts of a JSON message; one without data has no second."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return [head, data.tobytes()] if data.size else [head]


def unpack(parts: list[bytes]) -> tuple[Meta, Data]:
    """Header and bytes of a JSON message.

    Raises:
        ServiceError: If it is none, or its header is too long.
    """
    if not 1 <= len(parts) <= 2 or len(parts[0]) > LARGEST_HEADER:
        raise ServiceError(f"message is not a header of up to {LARGEST_HEADER} bytes, and data")
    try:
        header = json.loads(parts[0])
    except (ValueError, RecursionError):
        raise ServiceError("message header is no JSON") from None
    if not isinstance(header, dict):
        raise ServiceError("message header is no JSON object")
    return header, np.frombuffer(parts[1], np.uint8) if len(parts) == 2 else _NO_DATA
