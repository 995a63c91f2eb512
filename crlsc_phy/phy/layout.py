"""Layout of a burst, as numerology, header and MCS determine it.

    preamble | A: MCS, header, check | B: semantic layer, CRC-16 | detail | guard

Digital detail is cut into segments with a CRC-24 each; analog detail is sent as symbols.

Blocks A and B have one fixed format, so that a receiver that never heard this sender reads them; A tells the rest.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import FrameError, ModemError
from crlsc_phy.frame import SYMBOL, FrameHeader, Mode, SemanticFrame, crc16
from crlsc_phy.phy.blocks import (
    AnalogBlock,
    Carriers,
    CodedBlock,
    Segments,
    analog_block,
    detail_block,
    signalling_block,
)
from crlsc_phy.phy.mcs import Mcs, find_mcs

__all__ = [
    "SEMANTIC_CRC_BYTES",
    "Layout",
    "carries",
    "header_block",
    "pack_header",
    "pack_semantic",
    "unpack_header",
    "unpack_semantic",
]

_HEADER_BYTES = 1 + FrameHeader.SIZE + 1
SEMANTIC_CRC_BYTES = 2
"""Bytes of the CRC behind the air code in block B."""


@dataclass(frozen=True)
class Layout:
    """Blocks of one burst; a layer of no bytes has no block.

    Attributes:
        header: Block A.
        semantic: Block B, or None.
        detail: Block of the digital detail, or None.
        segments: Segments of the digital detail, or None.
        analog: Block of the analog detail, or None.
    """

    header: CodedBlock
    semantic: CodedBlock | None = None
    detail: CodedBlock | None = None
    segments: Segments | None = None
    analog: AnalogBlock | None = None

    @classmethod
    def of(cls, carriers: Carriers, header: FrameHeader, mcs: Mcs) -> Layout:
        """Return the layout of the burst that carries a frame.

        Args:
            carriers: The numerology.
            header: The frame's header.
            mcs: MCS of the detail layer.
        """
        first, semantic = header_block(carriers), None
        if header.semantic_bytes:
            size = header.semantic_bytes + SEMANTIC_CRC_BYTES
            semantic = signalling_block(size, carriers)
        if not header.detail_bytes:
            return cls(first, semantic)
        if mcs.analog:
            count = header.detail_bytes // SYMBOL.itemsize
            return cls(first, semantic, analog=analog_block(count, mcs, carriers))
        segments = Segments.of(header.detail_bytes)
        return cls(first, semantic, detail_block(segments, mcs, carriers), segments)

    @property
    def symbols(self) -> int:
        """OFDM symbols behind the preamble."""
        return sum(block.symbols for block in (self.header, self.semantic, self.detail, self.analog) if block)

    def modulate(self, frame: SemanticFrame) -> NDArray[np.complex64]:
        """Return the data symbols of a complete frame's layers, complex64 [symbols, data_carriers], without block A."""
        data = [np.empty((0, self.header.data_carriers), np.complex64)]
        if self.semantic:
            data.append(self.semantic.modulate(pack_semantic(frame.semantic or b"", frame.header.check)))
        if self.detail and self.segments:
            data.append(self.detail.modulate(self.segments.split(frame.detail or b"", frame.header.check)))
        if self.analog:
            data.append(self.analog.modulate(frame.symbols))
        return np.concatenate(data)


def header_block(carriers: Carriers) -> CodedBlock:
    """Return block A, the same in all bursts of a numerology."""
    return signalling_block(_HEADER_BYTES, carriers)


def pack_header(header: FrameHeader, mcs: Mcs) -> NDArray[np.uint8]:
    """Return the bits of block A, uint8 [1, bits]: MCS index, header, and the low byte of the CRC-32 of both."""
    body = bytes([mcs.index]) + header.to_bytes()
    return _bits(body + bytes([zlib.crc32(body) & 0xFF]))


def unpack_header(data: bytes) -> tuple[FrameHeader, Mcs]:
    """Return header and MCS from the bytes of block A.

    Raises:
        FrameError: If a check fails, or the MCS or the frame version is unknown, or they contradict each other.
    """
    body = data[:-1]
    if zlib.crc32(body) & 0xFF != data[-1]:
        raise FrameError("signalling block is damaged (check byte does not match)")
    try:
        mcs = find_mcs(body[0])
    except ModemError as error:
        raise FrameError(f"burst cannot be read: {error}") from None
    header = FrameHeader.from_bytes(body[1:])
    if not carries(mcs, header):
        raise FrameError(f"burst has MCS {mcs.name} and a detail layer of mode {header.mode.name.lower()}")
    return header, mcs


def carries(mcs: Mcs, header: FrameHeader) -> bool:
    """Return True if a frame with ``header`` can be sent with ``mcs``; one without detail always can."""
    return not header.detail_bytes or mcs.analog == (header.mode is Mode.ANALOG)


def pack_semantic(semantic: bytes, check: int) -> NDArray[np.uint8]:
    """Return the bits of block B, uint8 [1, bits]: the air code and its CRC-16, which starts from the header's."""
    return _bits(semantic + crc16(semantic, check))


def unpack_semantic(data: bytes, check: int) -> bytes:
    """Return the air code in the bytes of block B.

    Raises:
        FrameError: If its CRC is wrong, or it belongs to a header with another CRC.
    """
    semantic = data[:-SEMANTIC_CRC_BYTES]
    if data[-SEMANTIC_CRC_BYTES:] != crc16(semantic, check):
        raise FrameError("semantic layer is damaged (CRC-16 does not match)")
    return semantic


def _bits(data: bytes) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(data, np.uint8))[None]
