"""What a burst looks like, from the numerology, the header and the MCS.

    preamble | A: MCS, header, check | B: semantic layer, CRC-16 | detail segments, CRC-24 each | guard

Blocks A and B have one fixed format, so that a receiver that never heard this sender reads them; A tells the rest.
"""

from __future__ import annotations

import binascii
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import FrameError
from crlsc_phy.frame import FrameHeader
from crlsc_phy.phy.blocks import CodedBlock, Segments, detail_block, signalling_block
from crlsc_phy.phy.numerology import MCS_TABLE, Mcs, Numerology

__all__ = ["Layout", "header_block", "pack_header", "pack_semantic", "unpack_header", "unpack_semantic"]

_HEADER_BYTES = 1 + FrameHeader.SIZE + 1
_SEMANTIC_CRC_BYTES = 2


@dataclass(frozen=True)
class Layout:
    """The blocks of one burst; a layer of no bytes has no block.

    Attributes:
        header: Block A.
        semantic: Block B, or None.
        detail: Detail block, or None.
        segments: How the detail layer is cut, or None.
    """

    header: CodedBlock
    semantic: CodedBlock | None
    detail: CodedBlock | None
    segments: Segments | None

    @classmethod
    def of(cls, numerology: Numerology, header: FrameHeader, mcs: Mcs) -> Layout:
        """The layout of the burst that carries a frame with ``header``."""
        segments = Segments.of(header.detail_bytes) if header.detail_bytes else None
        semantic = None
        if header.semantic_bytes:
            size = header.semantic_bytes + _SEMANTIC_CRC_BYTES
            semantic = signalling_block(size, numerology.signalling_repetition, numerology.data_carriers)
        detail = detail_block(segments, mcs, numerology.data_carriers) if segments else None
        return cls(header_block(numerology), semantic, detail, segments)

    @property
    def symbols(self) -> int:
        """OFDM symbols behind the preamble."""
        return sum(block.symbols for block in (self.header, self.semantic, self.detail) if block)


def header_block(numerology: Numerology) -> CodedBlock:
    """Block A, the same in all bursts of a numerology."""
    return signalling_block(_HEADER_BYTES, numerology.signalling_repetition, numerology.data_carriers)


def pack_header(header: FrameHeader, mcs: Mcs) -> NDArray[np.uint8]:
    """Bits of block A, uint8 [1, bits]: MCS index, header, and the low byte of the CRC-32 of both."""
    body = bytes([mcs.index]) + header.to_bytes()
    return _bits(body + bytes([zlib.crc32(body) & 0xFF]))


def unpack_header(data: bytes) -> tuple[FrameHeader, Mcs]:
    """Undo :func:`pack_header`.

    Raises:
        FrameError: If a check fails, or the MCS or the frame version is unknown.
    """
    body = data[:-1]
    if zlib.crc32(body) & 0xFF != data[-1]:
        raise FrameError("signalling block is damaged (check byte does not match)")
    if body[0] >= len(MCS_TABLE):
        raise FrameError(f"burst has MCS {body[0]}; this program knows 0 to {len(MCS_TABLE) - 1}")
    return FrameHeader.from_bytes(body[1:]), MCS_TABLE[body[0]]


def pack_semantic(semantic: bytes) -> NDArray[np.uint8]:
    """Bits of block B, uint8 [1, bits]: the air code and its CRC-16."""
    return _bits(semantic + _crc16(semantic))


def unpack_semantic(data: bytes) -> bytes | None:
    """The air code, or None if its CRC is wrong."""
    semantic = data[:-_SEMANTIC_CRC_BYTES]
    return semantic if data[-_SEMANTIC_CRC_BYTES:] == _crc16(semantic) else None


def _bits(data: bytes) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(data, np.uint8))[None]


def _crc16(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(2, "big")
