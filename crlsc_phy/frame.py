"""The semantic frame: what one image becomes before it is modulated.

    header (17 B, CRC-16) | semantic layer (air code, CRC-16) | detail layer (tokens, CRC-32)

The layers stand alone. A modem protects the header and the semantic layer most, and may deliver a frame whose
detail is lost or has holes; such a frame still decodes to a class, neighbours and a preview. Only a complete
frame has a byte form. An analog detail layer is the exception to bits: its symbols arrive with noise on them.
"""

from __future__ import annotations

import binascii
import enum
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import FrameError

__all__ = ["FRAME_VERSION", "FrameHeader", "Mode", "SemanticFrame"]

FRAME_VERSION = 1
MAX_SIDE = 4096
MAX_DETAIL_BYTES = (1 << 24) - 1
SYMBOL = np.dtype("<c8")
"""How an analog symbol is stored in the detail layer."""

_HEADER = struct.Struct(">BBH4s3sB3s")
_CRC16 = struct.Struct(">H")
_CRC32 = struct.Struct(">I")


class Mode(enum.IntEnum):
    """What the detail layer holds."""

    SEMANTIC = 0
    """Nothing: the semantic layer travels alone."""
    DIGITAL = 1
    """Packed VQ tokens."""
    ANALOG = 2
    """Complex latent symbols, complex64 little-endian."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Everything a receiver must know before it can read the layers.

    Attributes:
        kb_id: First 4 bytes of the SHA-256 id of the bundle that the frame was made with.
        height, width: Size of the image in pixels, 1 to 4096.
        semantic_bytes: Length of the air code, 0 to 255.
        detail_bytes: Length of the detail layer, below 2**24; for analog symbols 8 each.
        levels: Residual codebook levels in a digital detail layer; the scale of an analog one; 0 to 255.
        sequence: Counter of the sender, modulo 2**16.
        mode: What the detail layer holds.
    """

    SIZE = _HEADER.size + _CRC16.size

    kb_id: bytes
    height: int
    width: int
    semantic_bytes: int
    detail_bytes: int
    levels: int = 0
    sequence: int = 0
    mode: Mode = Mode.DIGITAL

    def __post_init__(self) -> None:
        if len(self.kb_id) != 4:
            raise FrameError(f"kb_id has {len(self.kb_id)} bytes; it needs the first 4 of the bundle's id")
        for name, value, low, high in (
            ("height", self.height, 1, MAX_SIDE),
            ("width", self.width, 1, MAX_SIDE),
            ("semantic_bytes", self.semantic_bytes, 0, 255),
            ("detail_bytes", self.detail_bytes, 0, MAX_DETAIL_BYTES),
            ("levels", self.levels, 0, 255),
            ("sequence", self.sequence, 0, 65535),
        ):
            if not low <= value <= high:
                raise FrameError(f"{name} is {value}; it must be within {low} to {high}")
        if self.mode is Mode.ANALOG and self.detail_bytes % SYMBOL.itemsize:
            raise FrameError(f"detail_bytes is {self.detail_bytes}; analog symbols have {SYMBOL.itemsize} bytes each")

    def to_bytes(self) -> bytes:
        """The header as 17 bytes, its CRC-16 last."""
        geometry = (self.height - 1) << 12 | (self.width - 1)
        body = _HEADER.pack(
            FRAME_VERSION << 4 | self.mode,
            self.semantic_bytes,
            self.sequence,
            self.kb_id,
            geometry.to_bytes(3, "big"),
            self.levels,
            self.detail_bytes.to_bytes(3, "big"),
        )
        return body + _crc16(body)

    @classmethod
    def from_bytes(cls, data: bytes) -> FrameHeader:
        """Read a header from the first 17 bytes of ``data``.

        Raises:
            FrameError: If ``data`` is too short, its CRC is wrong, or its version or mode is unknown.
        """
        if len(data) < cls.SIZE:
            raise FrameError(f"frame is cut short: {len(data)} bytes where the header alone has {cls.SIZE}")
        body = data[: _HEADER.size]
        if data[_HEADER.size : cls.SIZE] != _crc16(body):
            raise FrameError("frame header is damaged (CRC-16 does not match)")
        first, semantic_bytes, sequence, kb_id, geometry, levels, detail_bytes = _HEADER.unpack(body)
        version, mode = first >> 4, first & 0xF
        if version != FRAME_VERSION:
            raise FrameError(f"frame has version {version}; this program reads version {FRAME_VERSION}")
        if mode not in Mode.__members__.values():
            raise FrameError(f"frame has mode {mode}; this program knows {', '.join(f'{m}' for m in Mode)}")
        size = int.from_bytes(geometry, "big")
        return cls(
            kb_id=kb_id,
            height=(size >> 12) + 1,
            width=(size & 0xFFF) + 1,
            semantic_bytes=semantic_bytes,
            detail_bytes=int.from_bytes(detail_bytes, "big"),
            levels=levels,
            sequence=sequence,
            mode=Mode(mode),
        )


@dataclass(frozen=True, slots=True)
class SemanticFrame:
    """One image on the air.

    Attributes:
        header: Geometry, versions and lengths.
        semantic: The air code; None when a receiver lost it.
        detail: Packed tokens or analog symbols; None when a receiver lost all of them.
        erasures: Byte ranges ``(start, stop)`` of ``detail`` whose content a receiver lost (zero-filled).
    """

    header: FrameHeader
    semantic: bytes | None
    detail: bytes | None = b""
    erasures: tuple[tuple[int, int], ...] = field(default=())

    def __post_init__(self) -> None:
        for name, layer, expected in (
            ("semantic", self.semantic, self.header.semantic_bytes),
            ("detail", self.detail, self.header.detail_bytes),
        ):
            if layer is not None and len(layer) != expected:
                raise FrameError(f"{name} layer has {len(layer)} bytes; the header says {expected}")

    @property
    def complete(self) -> bool:
        """Whether no layer is lost and no byte erased."""
        return self.semantic is not None and self.detail is not None and not self.erasures

    @property
    def symbols(self) -> npt.NDArray[np.complex64]:
        """The analog detail, complex64 [n]; from a receiver, linear estimates: the noisier, the smaller.

        Raises:
            FrameError: If the detail layer is not analog, or is lost.
        """
        if self.header.mode is not Mode.ANALOG or self.detail is None:
            raise FrameError("frame has no analog detail layer")
        return np.frombuffer(self.detail, SYMBOL).astype(np.complex64)

    @property
    def coded_bytes(self) -> int:
        """Bytes of the frame that cross the air as bits, CRCs included: analog symbols are none."""
        header = self.header
        digital = header.detail_bytes + _CRC32.size if header.mode is not Mode.ANALOG else 0
        return header.SIZE + header.semantic_bytes + _CRC16.size + digital

    def to_bytes(self) -> bytes:
        """The whole frame, a CRC behind each layer.

        Raises:
            FrameError: If a layer is lost or has erasures: a damaged frame has no byte form.
        """
        if self.semantic is None or self.detail is None or self.erasures:
            raise FrameError("frame has lost layers or erasures; only a complete frame has a byte form")
        return b"".join(
            (self.header.to_bytes(), self.semantic, _crc16(self.semantic), self.detail, _crc32(self.detail))
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> SemanticFrame:
        """Read a frame; the inverse of :meth:`to_bytes`, bit for bit.

        Raises:
            FrameError: If ``data`` is cut short, has bytes left over, or any CRC is wrong.
        """
        header = FrameHeader.from_bytes(data)
        semantic_end = header.SIZE + header.semantic_bytes
        detail_start = semantic_end + _CRC16.size
        detail_end = detail_start + header.detail_bytes
        size = detail_end + _CRC32.size
        if len(data) != size:
            raise FrameError(f"frame has {len(data)} bytes; its header says {size}")
        semantic, detail = data[header.SIZE : semantic_end], data[detail_start:detail_end]
        if data[semantic_end:detail_start] != _crc16(semantic):
            raise FrameError("semantic layer is damaged (CRC-16 does not match)")
        if data[detail_end:] != _crc32(detail):
            raise FrameError("detail layer is damaged (CRC-32 does not match)")
        return cls(header, semantic, detail)


def _crc16(data: bytes) -> bytes:
    return _CRC16.pack(binascii.crc_hqx(data, 0xFFFF))


def _crc32(data: bytes) -> bytes:
    return _CRC32.pack(zlib.crc32(data))
