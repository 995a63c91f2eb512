"""The protocol of the codec service, version 1: requests and answers, in either of two forms.

    JSON   header {"crlsc": 1, "op": "encode", "id": ..., metadata} | bytes
           answer {"crlsc": 1, "ok": true,     "id": ..., metadata} | bytes
           or     {"crlsc": 1, "ok": false,    "id": ..., "error": code, "reason": line}
    PDU    one part, a serialised PMT pair of metadata and u8vector, as GNU Radio's ZMQ message blocks send it: an image
           asks for a frame, a frame for an image. An error is answered by a skip event.

Metadata and bytes are those of :mod:`crlsc_phy.net.messages` in both. An answer has the form of its request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crlsc_phy.errors import ServiceError, brief
from crlsc_phy.net import pmt_wire
from crlsc_phy.net.messages import Data, Meta
from crlsc_phy.net.pmt_wire import Pair
from crlsc_phy.net.refused import RefusedError

__all__ = [
    "DEFAULT_ADDRESS",
    "LARGEST_PART",
    "VERSION",
    "JsonMessage",
    "PduMessage",
    "Request",
    "message_of",
    "pack",
    "unpack",
]

VERSION = 1
DEFAULT_ADDRESS = "tcp://127.0.0.1:8424"
LARGEST_PART = 4 << 20
"""Most bytes of a part; an image of 1024 x 1024 pixels has 3 MiB. libzmq hangs up on a client that sends more."""
LARGEST_HEADER = 1 << 18

# Number of parts of each operation.
_PARTS = {"encode": 2, "decode": 2, "stats": 1}
_NO_DATA: Data = np.zeros(0, np.uint8)


@dataclass(frozen=True)
class Request:
    """A client's request.

    Attributes:
        operation: ``encode``, ``decode``, ``stats``, or ``event`` for an event that is sent back as it is.
        meta: Metadata as in :mod:`crlsc_phy.net.messages`.
        data: uint8 [n] as in :mod:`crlsc_phy.net.messages`.
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
        """Parse the request.

        Raises:
            RefusedError: If it is not a request of this version.
            ServiceError: If it is not a JSON message.
        """
        meta, data = unpack(self._parts)
        self._id = meta.pop("id", None)
        version, operation = meta.pop("crlsc", None), meta.pop("op", None)
        if version != VERSION:
            raise RefusedError("version", f"message has protocol version {version!r:.20}; this service has {VERSION}")
        if not isinstance(operation, str) or operation not in _PARTS:
            raise RefusedError("operation", f"operation {operation!r:.40} is unknown; choose {', '.join(_PARTS)}")
        if len(self._parts) != _PARTS[operation]:
            raise ServiceError(f"{operation} takes {_PARTS[operation]} parts; the message has {len(self._parts)}")
        return Request(operation, meta, data)

    def answer(self, meta: Meta, data: Data) -> list[bytes]:
        """Return the parts of an answer."""
        return pack({**meta, "crlsc": VERSION, "ok": True, "id": self._id}, data)

    def refuse(self, error: RefusedError) -> list[bytes]:
        """Return the parts of an error."""
        answer = {"crlsc": VERSION, "ok": False, "id": self._id, "error": error.code, "reason": str(error)}
        return pack(answer, _NO_DATA)


class PduMessage:
    """A request that is a serialised PDU or event."""

    def __init__(self, part: bytes) -> None:
        self._part = part
        self._sequence: Meta = {}

    def read(self) -> Request:
        """Parse the request.

        Raises:
            ServiceError: If it is not a PDU.
        """
        value = pmt_wire.decode(self._part)
        meta = value.car if isinstance(value, Pair) else None
        if not isinstance(meta, dict) or not all(isinstance(key, str) for key in meta):
            raise ServiceError("PMT is not a PDU: it must be a pair of a dictionary and a u8vector")
        if isinstance(meta.get("sequence"), int):
            self._sequence = {"sequence": meta["sequence"]}
        if value.cdr is None and isinstance(meta.get("event"), str):
            return Request("event", meta)
        if not isinstance(value.cdr, np.ndarray) or value.cdr.dtype != np.uint8:
            raise ServiceError("PMT is not a PDU: its second half must be a u8vector")
        return Request("encode" if "height" in meta else "decode", meta, value.cdr)

    def answer(self, meta: Meta, data: Data) -> list[bytes]:
        """Return the part of an answer."""
        return [pmt_wire.encode(Pair(meta, data if data.size else None))]

    def refuse(self, error: RefusedError) -> list[bytes]:
        """Return the part of an error: a skip event."""
        event = {"event": "skip", **self._sequence, "reason": str(error), "error": error.code}
        return [pmt_wire.encode(Pair(event, None))]


def message_of(parts: list[bytes]) -> JsonMessage | PduMessage:
    """Return the message of a client in the form that it has: no PMT begins like a JSON header."""
    if len(parts) == 1 and not parts[0].startswith(b"{"):
        return PduMessage(parts[0])
    return JsonMessage(parts)


def pack(header: Meta, data: Data) -> list[bytes]:
    """Return the parts of a JSON message; the second one is left out if there is no data.

    Raises:
        ServiceError: If ``header`` has a value that JSON does not know.
    """
    try:
        head = json.dumps(header, separators=(",", ":"), default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ServiceError(f"message header cannot be written as JSON ({brief(error)})") from None
    return [head, data.tobytes()] if data.size else [head]


def unpack(parts: list[bytes]) -> tuple[Meta, Data]:
    """Return the header and the bytes, uint8 [n], of a JSON message.

    Raises:
        ServiceError: If it is not a JSON message, or its header is too long.
    """
    if not 1 <= len(parts) <= 2 or len(parts[0]) > LARGEST_HEADER:
        raise ServiceError(f"message must be a header of up to {LARGEST_HEADER} bytes, and data")
    try:
        header = json.loads(parts[0])
    except (ValueError, RecursionError):
        raise ServiceError("message header is not JSON") from None
    if not isinstance(header, dict):
        raise ServiceError("message header is not a JSON object")
    return header, np.frombuffer(parts[1], np.uint8) if len(parts) == 2 else _NO_DATA


def _plain(value: Any) -> Any:
    """Return a scalar or array of any library as what JSON knows."""
    if isinstance(value, bytes) or not hasattr(value, "__array__"):
        raise TypeError(f"a {type(value).__name__} is neither text nor number")
    return np.asarray(value).tolist()
