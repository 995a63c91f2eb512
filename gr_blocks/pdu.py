"""The messages between the blocks, as GNU Radio PDUs: a pair of a metadata dictionary and a u8vector.

    image, frame   the metadata and the bytes of :mod:`crlsc_phy.net.messages`
    event          meta: event, sequence, ...; no vector

Events travel in band, behind the images and frames that they belong to, and as tags through sample streams:

    burst   the burst of image ``sequence`` has left the modulator (samples, air_bytes)
    report  the receiver's report on the burst of image ``sequence`` (snr_db, mcs, segments, segment_failures)
    skip    the block that sends the event has no output for image ``sequence`` (reason)
    end     no image follows
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pmt

from crlsc_phy.errors import CrlscError, FrameError, ImageError, safe_text
from crlsc_phy.frame import SemanticFrame
from crlsc_phy.images import UInt8Image
from crlsc_phy.net.messages import (
    Data,
    Meta,
    frame_from_message,
    frame_to_message,
    image_from_message,
    image_to_message,
)
from crlsc_phy.phy.adaptation import LinkReport

__all__ = [
    "EVENT_TAG",
    "burst_event",
    "end_event",
    "event_from_tag",
    "event_to_tag",
    "frame_from_pdu",
    "frame_to_pdu",
    "image_from_pdu",
    "image_to_pdu",
    "make_event",
    "make_pdu",
    "read_dict",
    "read_event",
    "read_pdu",
    "report_event",
    "sequence_of",
    "skip_event",
]

EVENT_TAG = "crlsc_event"
"""Key of the stream tag that carries an event across samples."""

_UNIFORM_VECTOR = b"\x0a"
_U8_HEADER = struct.Struct(">BIBB")
_DATA_OFFSET = len(_UNIFORM_VECTOR) + _U8_HEADER.size


def image_to_pdu(image: UInt8Image, sequence: int, **meta: Any) -> Any:
    """Return the PDU of an image, uint8 [H, W, 3], with its number and further metadata that PMTs can hold."""
    return make_pdu(*image_to_message(image, sequence, meta))


def image_from_pdu(message: Any) -> tuple[UInt8Image, Meta]:
    """Return the image, uint8 [H, W, 3], and the metadata of an image PDU.

    Raises:
        ImageError: If ``message`` is not a PDU, or its vector does not have the size that its metadata gives.
    """
    meta, data = read_pdu(message, ImageError)
    return image_from_message(meta, data), meta


def frame_to_pdu(frame: SemanticFrame, **meta: Any) -> Any:
    """Return a frame PDU; lost layers and erasures are kept."""
    return make_pdu(*frame_to_message(frame, meta))


def frame_from_pdu(message: Any) -> tuple[SemanticFrame, Meta]:
    """Return the semantic frame and the metadata of a frame PDU; the inverse of :func:`frame_to_pdu`.

    Raises:
        FrameError: If ``message`` is not a PDU, its vector is not a readable frame, or the metadata does not say
            which layers arrived.
    """
    meta, data = read_pdu(message, FrameError)
    return frame_from_message(meta, data), meta


def make_pdu(meta: Meta, data: Data) -> Any:
    """Return a PDU of metadata and bytes, uint8 [n]."""
    # pmt.init_u8vector and pmt.to_python walk an array item by item, a thousand times slower than its wire form.
    header = _U8_HEADER.pack(0, data.size, 1, 0)
    return pmt.cons(pmt.to_pmt(_safe(meta)), pmt.deserialize_str(_UNIFORM_VECTOR + header + data.tobytes()))


def read_pdu(message: Any, error: type[CrlscError]) -> tuple[Meta, Data]:
    """Return the metadata and the bytes, uint8 [n], of a PDU.

    Raises:
        error: If ``message`` is not a PDU.
    """
    if not (pmt.is_pair(message) and pmt.is_u8vector(pmt.cdr(message))):
        raise error("message is not a PDU: it must be a pair of a dictionary and a u8vector")
    meta = read_dict(pmt.car(message))
    if meta is None:
        raise error("message has no metadata dictionary")
    return meta, np.frombuffer(pmt.serialize_str(pmt.cdr(message)), np.uint8, offset=_DATA_OFFSET)


def make_event(kind: str, **meta: Any) -> Any:
    """Return an event message."""
    return pmt.cons(pmt.to_pmt(_safe({"event": kind, **meta})), pmt.PMT_NIL)


def burst_event(sequence: int, samples: int, air_bytes: int) -> Any:
    """Return the event of a burst that has left the modulator.

    Args:
        sequence: Number of the image.
        samples: Complex samples of the burst.
        air_bytes: Bytes of the semantic frame in it.
    """
    return make_event("burst", sequence=sequence, samples=samples, air_bytes=air_bytes)


def report_event(report: LinkReport) -> Any:
    """Return the event with a receiver's report on a burst."""
    return make_event("report", **report.to_dict())


def skip_event(sequence: int, reason: str) -> Any:
    """Return the event of image ``sequence`` that is lost, because of ``reason``."""
    return make_event("skip", sequence=sequence, reason=reason)


def end_event() -> Any:
    """Return the event behind the last image."""
    return make_event("end")


def read_event(message: Any) -> Meta | None:
    """Return the metadata of an event, None for any other message."""
    if not (pmt.is_pair(message) and pmt.is_null(pmt.cdr(message))):
        return None
    meta = read_dict(pmt.car(message))
    return meta if meta and isinstance(meta.get("event"), str) else None


def event_to_tag(message: Any) -> Any:
    """Return the value of the stream tag that carries an event."""
    return pmt.car(message)


def event_from_tag(value: Any) -> Any:
    """Return the event that a stream tag carries."""
    return pmt.cons(value, pmt.PMT_NIL)


def sequence_of(message: Any) -> int | None:
    """Return the sequence number that a PDU or event carries; None if it has none."""
    meta = read_dict(pmt.car(message)) if pmt.is_pair(message) else None
    sequence = (meta or {}).get("sequence")
    return sequence if isinstance(sequence, int) else None


def _safe(value: Any) -> Any:
    """Return metadata whose texts can be encoded as UTF-8, as a PMT symbol must be."""
    match value:
        case str():
            return safe_text(value)
        case list() | tuple():
            return type(value)(map(_safe, value))
        case dict():
            return {_safe(key): _safe(item) for key, item in value.items()}
    return value


def read_dict(value: Any) -> Meta | None:
    """Return the dictionary that a PMT is, None for any other PMT."""
    try:
        meta = pmt.to_python(value)
    except Exception:  # A pair is a PMT dictionary until one tries to read it as one.
        return None
    return meta if isinstance(meta, dict) else None
