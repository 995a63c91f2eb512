"""Messages between programs, whatever carries them: metadata and bytes.

    image   sequence, height, width, ...               pixels, row by row, RGB
    frame   sequence, semantic_ok, detail_ok, ...      SemanticFrame.to_bytes()

A damaged frame has no byte form of its own. It is sent with its lost bytes as zeros, so that the bytes are a whole
frame with valid CRCs, and the metadata says which layers and byte ranges are lost.

GNU Radio's PDUs (:mod:`gr_blocks.pdu`) and the messages of the codec service are two forms of them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import CrlscError, FrameError, ImageError
from crlsc_phy.frame import SemanticFrame
from crlsc_phy.images import UInt8Image, check_image

if TYPE_CHECKING:
    # A program that only exchanges messages needs none of the codec's libraries.
    from crlsc_phy.codec import SemanticCodec

__all__ = [
    "NEIGHBOURS",
    "Data",
    "Meta",
    "decode_message",
    "encode_message",
    "frame_from_message",
    "frame_to_message",
    "image_from_message",
    "image_to_message",
    "is_whole",
]

Meta = dict[str, Any]
Data = npt.NDArray[np.uint8]

_MOST_DB = 1000

NEIGHBOURS = 3
"""Neighbours in the metadata of a decoded image, by default."""


def image_to_message(image: UInt8Image, sequence: int, meta: Meta) -> tuple[Meta, Data]:
    """Return the message of an image.

    Args:
        image: uint8 [H, W, 3].
        sequence: Number of the image, 0 or more.
        meta: Further metadata.

    Returns:
        Metadata and bytes, uint8 [3 H W].
    """
    height, width = image.shape[:2]
    return {**meta, "sequence": sequence, "height": height, "width": width}, np.ascontiguousarray(image).reshape(-1)


def image_from_message(meta: Meta, data: Data) -> UInt8Image:
    """Return the image, uint8 [H, W, 3], of an image message.

    Raises:
        ImageError: If its data does not have the size that its metadata gives.
    """
    sequence, height, width = (_integer(meta, key, ImageError) for key in ("sequence", "height", "width"))
    if min(sequence, height, width) < 0 or data.size != height * width * 3:
        raise ImageError(f"image message has {data.size} bytes; its metadata says {height} x {width} x 3")
    return check_image(data.reshape(height, width, 3))


def frame_to_message(frame: SemanticFrame, meta: Meta) -> tuple[Meta, Data]:
    """Return the message of a frame, with ``meta`` as further metadata; lost layers and erasures are kept."""
    header = frame.header
    whole = dataclasses.replace(
        frame,
        semantic=frame.semantic if frame.semantic is not None else bytes(header.semantic_bytes),
        detail=frame.detail if frame.detail is not None else bytes(header.detail_bytes),
        erasures=(),
    )
    state = {
        "sequence": header.sequence,
        "semantic_ok": frame.semantic is not None,
        "detail_ok": frame.detail is not None and not frame.erasures,
        "detail_lost": frame.detail is None,
        "erasures": [border for erasure in frame.erasures for border in erasure],
    }
    return {**meta, **state}, np.frombuffer(whole.to_bytes(), np.uint8)


def frame_from_message(meta: Meta, data: Data) -> SemanticFrame:
    """Return the semantic frame of a frame message; the inverse of :func:`frame_to_message`.

    Raises:
        FrameError: If its bytes are not a readable frame, or the metadata does not say which layers arrived.
    """
    frame = SemanticFrame.from_bytes(data.tobytes())
    semantic_ok, detail_lost, borders = (meta.get(key) for key in ("semantic_ok", "detail_lost", "erasures"))
    if not (isinstance(semantic_ok, bool) and isinstance(detail_lost, bool) and _are_ranges(borders, frame)):
        raise FrameError("frame message does not say which layers arrived (semantic_ok, detail_lost, erasures)")
    return dataclasses.replace(
        frame,
        semantic=frame.semantic if semantic_ok else None,
        detail=None if detail_lost else frame.detail,
        erasures=tuple(zip(borders[::2], borders[1::2], strict=True)) if borders else (),
    )


def encode_message(
    codec: SemanticCodec,
    meta: Meta,
    data: Data,
    mode: Literal["digital", "analog"] = "digital",
    levels: int | None = None,
) -> tuple[Meta, Data]:
    """Encode an image message to a frame message.

    Args:
        codec: The codec that encodes.
        meta: Metadata of the image message.
        data: Bytes of the image message, uint8 [n].
        mode: Mode of the detail layer.
        levels: Rate of the detail layer; None for the highest.

    Raises:
        ImageError: If the codec does not take the image, the mode or the rate.
    """
    return frame_to_message(codec.encode(image_from_message(meta, data), meta["sequence"] & 0xFFFF, levels, mode), {})


def decode_message(codec: SemanticCodec, meta: Meta, data: Data, neighbours: int = NEIGHBOURS) -> tuple[Meta, Data]:
    """Decode a frame message to an image message.

    Args:
        codec: The codec that decodes.
        meta: Metadata of the frame message. ``detail_snr_db``, ``semantic_llr`` and ``semantic_coded_llr`` are given
            to :meth:`SemanticCodec.decode`.
        data: Bytes of the frame message, uint8 [n].
        neighbours: Most neighbours in the metadata of the image.

    Returns:
        Metadata and bytes of the image. The metadata is that of the frame without the soft bits, and ``label``,
        ``neighbours``, ``confidence`` and ``repaired``.

    Raises:
        FrameError: If the codec does not take the frame, or the soft bits do not fit it.
    """
    frame = frame_from_message(meta, data)
    meta = {key: value for key, value in meta.items() if key != "erasures"}
    soft = {name: _soft(name, meta.pop(name, None)) for name in ("semantic_llr", "semantic_coded_llr")}
    result = codec.decode(frame, _snr_db(meta.get("detail_snr_db")), **soft)
    told = {
        "label": result.label,
        "neighbours": [
            {"label": near.label, "name": near.name, "score": float(near.score), "base": near.base}
            for near in result.neighbours[:neighbours]
        ],
        "confidence": float(result.confidence),
        "repaired": result.repaired,
    }
    return image_to_message(result.image, frame.header.sequence, meta | told)


def _snr_db(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_MOST_DB < value < _MOST_DB:
        raise FrameError(f"detail_snr_db is {value!r:.40}; it must be a number of {-_MOST_DB} to {_MOST_DB} dB")
    return float(value)


def _soft(name: str, values: Any) -> npt.NDArray[np.float32] | None:
    if values is None:
        return None
    try:
        soft = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise FrameError(f"{name} is not a list of numbers") from None
    if not np.isfinite(soft).all():
        raise FrameError(f"{name} has values that are not finite")
    return soft


def _integer(meta: Meta, key: str, error: type[CrlscError]) -> int:
    value = meta.get(key)
    if not is_whole(value):
        raise error(f"message metadata has no whole number {key!r}")
    return value


def is_whole(value: Any) -> TypeGuard[int]:
    """Return whether a value of metadata is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _are_ranges(borders: Any, frame: SemanticFrame) -> bool:
    if not isinstance(borders, list) or len(borders) % 2 or not all(map(is_whole, borders)):
        return False
    return borders == sorted(borders) and (not borders or 0 <= borders[0] <= borders[-1] <= len(frame.detail or b""))
