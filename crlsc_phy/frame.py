"""The semantic frame: one image before it is modulated.

    header (20 B) | meaning (air code), CRC-16 | detail (tokens or symbols), CRC-32

The layers stand alone. A modem protects the header and the meaning most, and may deliver a frame whose detail is lost
or has holes; such a frame still decodes to a label, neighbours and a preview. Only a complete frame has a byte form.
An analog detail layer is the exception to bits: its symbols arrive with noise on them.

The header, big-endian, most significant bit first::

    bits  field      use
       4  version    2
       2  mode       0 meaning alone, 1 digital detail, 2 analog detail, 3 hybrid (digital base and analog residual)
       2  rate       code rate of meaning and preview on the air, 0 the most robust
      16  sequence   counter of the sender
      32  shared id  first bytes of the id of codebooks and knowledge base
      12  height     less one, in pixels
      12  width      less one
       8  levels     levels of a digital detail, scale of an analog one
      16  coder      coder of the detail, 0 the bundle's own
       6  meaning    bytes of the air code
       4  preview    bytes of a thumbnail
       9  side       bytes of side information, without which the detail cannot be read; protected like the preview.
                     In a hybrid frame it begins with the length of the digital base
      21  detail     bytes of a digital detail, symbols of an analog one
      16  CRC-16

Each layer's CRC starts from the header's, so that a layer of another frame never passes. This version writes 0 as
rate, coder, preview and side information: these, and mode 3, are for later versions. It refuses frames that use them.
"""

from __future__ import annotations

import binascii
import enum
import operator
import zlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import FrameError

__all__ = ["FRAME_VERSION", "MAX_SEMANTIC_BYTES", "SYMBOL", "FrameHeader", "Mode", "ModeName", "SemanticFrame", "crc16"]

FRAME_VERSION = 2
MAX_SIDE = 4096
MAX_SEMANTIC_BYTES = 63
MAX_DETAIL = (1 << 21) - 1
"""Largest detail layer, in bytes or analog symbols."""
SYMBOL = np.dtype("<c8")
"""Type of an analog symbol in the detail layer."""

_WIDTHS = {
    "version": 4,
    "mode": 2,
    "rate": 2,
    "sequence": 16,
    "kb_id": 32,
    "height": 12,
    "width": 12,
    "levels": 8,
    "coder": 16,
    "semantic_bytes": 6,
    "preview": 4,
    "side": 9,
    "detail": 21,
}
_LATER = {
    "rate": "a meaning at another rate",
    "coder": "the detail of another coder",
    "preview": "a preview layer",
    "side": "side information",
}
"""Fields that must be zero in this version, and what they would announce."""
_BODY_BYTES = sum(_WIDTHS.values()) // 8
_CRC16_BYTES, _CRC32_BYTES = 2, 4
# Of version 1: 15 bytes and a CRC-16.
_VERSION_1_BODY = 15


ModeName = Literal["digital", "analog"]
"""Name of the :class:`Mode` of a detail layer, as options give it."""


class Mode(enum.IntEnum):
    """Kind of the detail layer."""

    SEMANTIC = 0
    """No detail layer."""
    DIGITAL = 1
    """Packed VQ tokens."""
    ANALOG = 2
    """Complex latent symbols, complex64 little-endian."""


_HYBRID = 3


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The part of a frame that a receiver must know before it can read the layers.

    Attributes:
        kb_id: First 4 bytes of the SHA-256 id of the bundle that the frame was made with.
        height, width: Size of the image in pixels, 1 to 4096.
        semantic_bytes: Length of the air code, 0 to 63.
        detail_bytes: Length of the detail layer, below 2**21; of an analog one 8 for each symbol, below 2**24.
        levels: Residual codebook levels in a digital detail layer; the scale of an analog one; 0 to 255.
        sequence: Counter of the sender, modulo 2**16.
        mode: Kind of the detail layer.

    Raises:
        FrameError: If a value is out of range.
    """

    SIZE = _BODY_BYTES + _CRC16_BYTES

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
        for name, low, high in (
            ("height", 1, MAX_SIDE),
            ("width", 1, MAX_SIDE),
            ("semantic_bytes", 0, MAX_SEMANTIC_BYTES),
            ("detail_bytes", 0, MAX_DETAIL * self._unit),
            ("levels", 0, 255),
            ("sequence", 0, 65535),
        ):
            try:
                # A NumPy integer would wrap around where lengths are added.
                value = operator.index(getattr(self, name))
            except TypeError:
                raise FrameError(f"{name} is {getattr(self, name)!r}; it must be a whole number") from None
            object.__setattr__(self, name, value)
            if not low <= value <= high:
                raise FrameError(f"{name} is {value}; it must be within {low} to {high}")
        if self.detail_bytes % self._unit:
            raise FrameError(f"detail_bytes is {self.detail_bytes}; analog symbols have {SYMBOL.itemsize} bytes each")

    @property
    def _unit(self) -> int:
        """Bytes that the field ``detail`` counts by."""
        return SYMBOL.itemsize if self.mode is Mode.ANALOG else 1

    @property
    def check(self) -> int:
        """The header's CRC-16, from which those of the layers start."""
        return int.from_bytes(self.to_bytes()[-_CRC16_BYTES:], "big")

    def to_bytes(self) -> bytes:
        """Return the header as 20 bytes, its CRC-16 last."""
        values = {
            "version": FRAME_VERSION,
            "mode": self.mode,
            "sequence": self.sequence,
            "kb_id": int.from_bytes(self.kb_id, "big"),
            "height": self.height - 1,
            "width": self.width - 1,
            "levels": self.levels,
            "semantic_bytes": self.semantic_bytes,
            "detail": self.detail_bytes // self._unit,
        }
        packed = 0
        for name, width in _WIDTHS.items():
            packed = packed << width | int(values.get(name, 0))
        body = packed.to_bytes(_BODY_BYTES, "big")
        return body + crc16(body)

    @classmethod
    def from_bytes(cls, data: bytes) -> FrameHeader:
        """Read a header from the first 20 bytes of ``data``.

        Raises:
            FrameError: If ``data`` is too short, its CRC is wrong, its version or mode is unknown, or it announces a
                layer that this version does not read.
        """
        _refuse_version_1(data)
        if len(data) < cls.SIZE:
            raise FrameError(f"frame is cut short: {len(data)} bytes where the header alone has {cls.SIZE}")
        body = data[:_BODY_BYTES]
        if data[_BODY_BYTES : cls.SIZE] != crc16(body):
            raise FrameError("frame header is damaged (CRC-16 does not match)")
        packed, values = int.from_bytes(body, "big"), dict[str, int]()
        for name, width in reversed(_WIDTHS.items()):
            values[name] = packed & ((1 << width) - 1)
            packed >>= width
        later = [what for name, what in _LATER.items() if values[name]]
        if values["version"] != FRAME_VERSION:
            later = [f"version {values['version']}"]
        elif values["mode"] == _HYBRID:
            later = ["a hybrid detail layer (mode 3)"]
        if later:
            raise FrameError(f"frame has {later[0]}, which this version of crlsc-phy does not read; update crlsc-phy")
        mode = Mode(values["mode"])
        return cls(
            kb_id=values["kb_id"].to_bytes(4, "big"),
            height=values["height"] + 1,
            width=values["width"] + 1,
            semantic_bytes=values["semantic_bytes"],
            detail_bytes=values["detail"] * (SYMBOL.itemsize if mode is Mode.ANALOG else 1),
            levels=values["levels"],
            sequence=values["sequence"],
            mode=mode,
        )


@dataclass(frozen=True, slots=True)
class SemanticFrame:
    """One image on the air: a header and its layers.

    Attributes:
        header: Geometry and lengths.
        semantic: The air code; None when a receiver lost it. Any buffer is taken, and copied.
        detail: Packed tokens or analog symbols; None when a receiver lost all of them. Any buffer is taken, and copied.
        erasures: Byte ranges ``(start, stop)`` of ``detail`` whose content a receiver lost (zero-filled).

    Raises:
        FrameError: If a layer has another length than the header says.

    >>> header = FrameHeader(kb_id=bytes(4), height=64, width=48, semantic_bytes=16, detail_bytes=3)
    >>> frame = SemanticFrame(header, semantic=bytes(16), detail=b"abc")
    >>> len(frame.to_bytes())
    45
    >>> SemanticFrame.from_bytes(frame.to_bytes()) == frame
    True
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
            if layer is None:
                continue
            object.__setattr__(self, name, copy := bytes(layer))
            if len(copy) != expected:
                raise FrameError(f"{name} layer has {len(copy)} bytes; the header says {expected}")

    @property
    def complete(self) -> bool:
        """True if no layer is lost and no byte erased."""
        return self.semantic is not None and self.detail is not None and not self.erasures

    @property
    def symbols(self) -> npt.NDArray[np.complex64]:
        """Analog detail, complex64 [n]; from a receiver, linear estimates that shrink as the noise on them grows.

        Raises:
            FrameError: If the detail layer is not analog, or is lost.
        """
        if self.header.mode is not Mode.ANALOG or self.detail is None:
            raise FrameError("frame has no analog detail layer")
        return np.frombuffer(self.detail, SYMBOL).astype(np.complex64)

    @property
    def coded_bytes(self) -> int:
        """Bytes of the frame that cross the air as bits, CRCs included; analog symbols do not count."""
        header = self.header
        digital = header.detail_bytes + _CRC32_BYTES if header.mode is not Mode.ANALOG else 0
        return header.SIZE + header.semantic_bytes + _CRC16_BYTES + digital

    def to_bytes(self) -> bytes:
        """Return the whole frame, a CRC behind each layer.

        Raises:
            FrameError: If a layer is lost or has erasures: a damaged frame has no byte form.
        """
        if self.semantic is None or self.detail is None or self.erasures:
            raise FrameError("frame has lost layers or erasures; only a complete frame has a byte form")
        check = self.header.check
        return b"".join(
            (
                self.header.to_bytes(),
                self.semantic,
                crc16(self.semantic, check),
                self.detail,
                _crc32(self.detail, check),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> SemanticFrame:
        """Read a frame; the inverse of :meth:`to_bytes`, bit for bit.

        Raises:
            FrameError: If ``data`` is cut short, has bytes left over, or any CRC is wrong.
        """
        header = FrameHeader.from_bytes(data)
        semantic_end = header.SIZE + header.semantic_bytes
        detail_start = semantic_end + _CRC16_BYTES
        detail_end = detail_start + header.detail_bytes
        size = detail_end + _CRC32_BYTES
        if len(data) != size:
            raise FrameError(f"frame has {len(data)} bytes; its header says {size}")
        semantic, detail = data[header.SIZE : semantic_end], data[detail_start:detail_end]
        if data[semantic_end:detail_start] != crc16(semantic, header.check):
            raise FrameError("semantic layer is damaged (CRC-16 does not match)")
        if data[detail_end:] != _crc32(detail, header.check):
            raise FrameError("detail layer is damaged (CRC-32 does not match)")
        return cls(header, semantic, detail)


def crc16(data: bytes, start: int = 0xFFFF) -> bytes:
    """Return the CRC-16 of ``data``, 2 bytes: polynomial 0x1021 (ITU-T V.41), no reflection, no inversion.

    Args:
        data: Any bytes.
        start: First state of the register, the header's CRC for a layer. From a state of 0 zero bytes would have the
            CRC 0, and so would silence; 0xFFFF takes its place.
    """
    return binascii.crc_hqx(data, start or 0xFFFF).to_bytes(_CRC16_BYTES, "big")


def _crc32(data: bytes, start: int) -> bytes:
    return zlib.crc32(data, start).to_bytes(_CRC32_BYTES, "big")


def _refuse_version_1(data: bytes) -> None:
    body, check = data[:_VERSION_1_BODY], data[_VERSION_1_BODY : _VERSION_1_BODY + _CRC16_BYTES]
    if data and data[0] >> 4 == 1 and check == crc16(body):
        raise FrameError(
            f"frame has version 1; this program reads version {FRAME_VERSION}: encode the image again with this "
            "crlsc-phy, and give the receiver the same"
        )
