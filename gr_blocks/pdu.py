"""The messages between the blocks, as GNU Radio PDUs: a pair of a metadata dictionary and a u8vector.

    image, frame   the metadata and the bytes of :mod:`crlsc_phy.net.messages`
    event          meta: event, sequence, ...; no vector

Events travel in band behind the images and frames that they speak of, and as tags through sample streams:

    burst   the burst of image ``sequence`` has left the modulator (samples, air_bytes)
    report  what the receiver says of the burst of image ``sequence`` (snr_db, mcs, segments, segment_failures)
    skip    image ``sequence`` will not come out of the block that says so (reason)
    end     no image follows
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pmt

from crlsc_phy.errors import CrlscError, FrameError, ImageError
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
    """An image PDU of ``image`` uint8 [H, W, 3]; ``meta`` takes what :func:`pmt.to_pmt` takes."""
    return make_pdu(*image_to_message(image, sequence, meta))


def image_from_pdu(message: Any) -> tuple[UInt8Image, Meta]:
    """The image uint8 [H, W, 3] and the metadata of an image PDU.

    Raises:
        ImageError: If ``message`` is not a PDU, or its size is not the one that its metadata says.
    """
    meta, data = read_pdu(message, ImageError)
    return image_from_message(meta, data), meta


def frame_to_pdu(frame: SemanticFrame, **meta: Any) -> Any:
    """A frame PDU; lost layers and erasures survive."""
    return make_pdu(*frame_to_message(frame, meta))


def frame_from_pdu(message: Any) -> tuple[SemanticFrame, Meta]:
    """The semantic frame and the metadata of a frame PDU; the inverse of :func:`frame_to_pdu`.

    Raises:
        FrameError: If ``message`` is not a PDU, its bytes are not a frame that we read, or the metadata does not say
            which layers arrived.
    """
    meta, data = read_pdu(message, FrameError)
    return frame_from_message(meta, data), meta


def make_pdu(meta: Meta, data: Data) -> Any:
    """A PDU of metadata and bytes."""
    # pmt.init_u8vector and pmt.to_python walk an array item by item, a thousand times slower than its wire form.
    header = _U8_HEADER.pack(0, data.size, 1, 0)
    return pmt.cons(pmt.to_pmt(meta), pmt.deserialize_str(_UNIFORM_VECTOR + header + data.tobytes()))


def read_pdu(message: Any, error: type[CrlscError]) -> tuple[Meta, Data]:
    """The metadata and the bytes of a PDU.

    Raises:
        error: If it is none.
    """
    if not (pmt.is_pair(message) and pmt.is_u8vector(pmt.cdr(message))):
        raise error("message is not a PDU: it must be a pair of a dictionary and a u8vector")
    meta = _read_meta(message)
    if meta is None:
        raise error("message has no metadata dictionary")
    return meta, np.frombuffer(pmt.serialize_str(pmt.cdr(message)), np.uint8, offset=_DATA_OFFSET)


def make_event(kind: str, **meta: Any) -> Any:
    """An event message."""
    return pmt.cons(pmt.to_pmt({"event": kind, **meta}), pmt.PMT_NIL)


def burst_event(sequence: int, samples: int, air_bytes: int) -> Any:
    """``samples`` complex samples that carry ``air_bytes`` bytes of frame have left the modulator."""
    return make_event("burst", sequence=sequence, samples=samples, air_bytes=air_bytes)


def report_event(report: LinkReport) -> Any:
    """What a receiver tells a sender about a burst."""
    return make_event("report", **report.to_dict())


def skip_event(sequence: int, reason: str) -> Any:
    """Image ``sequence`` ends here, because of ``reason``."""
    return make_event("skip", sequence=sequence, reason=reason)


def end_event() -> Any:
    """No image follows."""
    return make_event("end")


def read_event(message: Any) -> Meta | None:
    """The metadata of an event, None for any other message."""
    if not (pmt.is_pair(message) and pmt.is_null(pmt.cdr(message))):
        return None
    meta = _read_meta(message)
    return meta if meta and isinstance(meta.get("event"), str) else None


def event_to_tag(message: Any) -> Any:
    """The value of the stream tag that carries an event."""
    return pmt.car(message)


def event_from_tag(value: Any) -> Any:
    """The event that a stream tag carries."""
    return pmt.cons(value, pmt.PMT_NIL)


def sequence_of(message: Any) -> int | None:
    """The sequence number that a PDU or event carries; None if it has none."""
    meta = _read_meta(message) if pmt.is_pair(message) else None
    sequence = (meta or {}).get("sequence")
    return sequence if isinstance(sequence, int) else None


def _read_meta(message: Any) -> Meta | None:
    try:
        meta = pmt.to_python(pmt.car(message))
    except (AttributeError, RuntimeError, TypeError, ValueError):
        # A pair is a PMT dictionary until one tries to read it as one.
        return None
    return meta if isinstance(meta, dict) else None
