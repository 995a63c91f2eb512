"""How plain bytes cross the air, everything counted: in a burst of the modem, or as symbols on a link of symbols."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.link.burst import BurstLink
from crlsc_phy.link.symbols import SymbolLink
from crlsc_phy.phy import Mcs
from crlsc_phy.phy.blocks import CodedBlock, Segments

__all__ = ["Air", "Delivery", "GridAir", "ModemAir"]

_ITERATIONS = 25
_CRC_BITS = 24
# No frame carries more.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Delivery:
    """What became of some bytes.

    Attributes:
        data: As received; None unless all of them were.
        segments, segment_failures: LDPC words with a CRC each, and how many of them were lost.
        channel_uses: Everything counted.
        airtime_s: None where there is no time.
        snr_db: The receiver's estimate of Es/N0, None without one.
        modulate_s, receive_s: CPU time.
    """

    data: bytes | None
    segments: int
    segment_failures: int
    channel_uses: float
    airtime_s: float | None
    snr_db: float | None
    modulate_s: float
    receive_s: float


class Air(ABC):
    """A way for bytes."""

    def __init__(self) -> None:
        self.room = lru_cache(maxsize=4096)(self._room)

    @abstractmethod
    def uses(self, size: int, mcs: Mcs, shape: tuple[int, int]) -> float:
        """Channel uses of ``size`` bytes that show a picture of ``shape`` (height, width)."""

    @abstractmethod
    def send(self, data: bytes, mcs: Mcs, shape: tuple[int, int], snr_db: float, seed: Sequence[int]) -> Delivery:
        """Send bytes; the realisation of the channel is decided by ``seed``, whatever is sent."""

    @abstractmethod
    def capacity(self, uses: float, snr_db: float, seed: Sequence[int]) -> float:
        """Bits a channel use that a burst could carry at most, knowing the realisation but not adapting power."""

    def _room(self, uses: float, mcs: Mcs, shape: tuple[int, int]) -> int:
        """Bytes that ``uses`` channel uses carry."""
        low, high = 0, _MOST_BYTES
        while low < high:
            middle = (low + high + 1) // 2
            if self.uses(middle, mcs, shape) <= uses:
                low = middle
            else:
                high = middle - 1
        return low


class ModemAir(Air):
    """Bytes as the detail layer of a frame without a semantic layer: preamble, header, pilots and prefixes are paid.

    Args:
        link: Modem and channel.
    """

    def __init__(self, link: BurstLink) -> None:
        super().__init__()
        self._link = link

    def uses(self, size: int, mcs: Mcs, shape: tuple[int, int]) -> float:
        return self._link.channel_uses(_header(size, shape), mcs)

    def send(self, data: bytes, mcs: Mcs, shape: tuple[int, int], snr_db: float, seed: Sequence[int]) -> Delivery:
        passage = self._link.send(SemanticFrame(_header(len(data), shape), b"", data), mcs, snr_db, seed)
        burst = passage.burst
        return Delivery(
            data=burst.frame.detail if burst and burst.frame.complete else None,
            segments=passage.segments,
            segment_failures=passage.segment_failures,
            channel_uses=passage.channel_uses,
            airtime_s=passage.airtime_s,
            snr_db=burst.snr_db if burst else None,
            modulate_s=passage.modulate_s,
            receive_s=passage.receive_s,
        )

    def capacity(self, uses: float, snr_db: float, seed: Sequence[int]) -> float:
        return self._link.capacity(uses, snr_db, seed)


class GridAir(Air):
    """Bytes in segments with a CRC-24 each, LDPC coded, as symbols; no preamble and no header.

    Args:
        link: What carries the symbols.
    """

    def __init__(self, link: SymbolLink) -> None:
        super().__init__()
        self._link = link

    def uses(self, size: int, mcs: Mcs, shape: tuple[int, int]) -> float:  # noqa: ARG002
        return self._link.uses(_block(Segments.of(size), mcs).symbols)

    def send(self, data: bytes, mcs: Mcs, shape: tuple[int, int], snr_db: float, seed: Sequence[int]) -> Delivery:  # noqa: ARG002
        segments = Segments.of(len(data))
        block = _block(segments, mcs)
        start = time.process_time()
        symbols = block.modulate(segments.split(data)).reshape(1, -1)
        modulated = time.process_time()
        received, noise = self._link.send(symbols, snr_db, np.random.default_rng(seed))
        passed = time.process_time()
        words, _ = block.decode(block.soft_bits(received.reshape(-1, 1), noise.reshape(-1, 1)), _ITERATIONS)
        joined, _, failures = segments.join(words)
        return Delivery(
            data=None if failures else joined,
            segments=segments.count,
            segment_failures=failures,
            channel_uses=self._link.uses(block.symbols),
            airtime_s=None,
            snr_db=None,
            modulate_s=modulated - start,
            receive_s=time.process_time() - passed,
        )

    def capacity(self, uses: float, snr_db: float, seed: Sequence[int]) -> float:
        # Symbols that say nothing: what is asked for is the noise that a receiver with perfect knowledge sees.
        symbols = np.ones((1, int(uses)), np.complex64)
        _, noise = self._link.send(symbols, snr_db, np.random.default_rng(seed))
        return float(np.mean(np.log2(1 + 1 / noise)))


def _header(size: int, shape: tuple[int, int]) -> FrameHeader:
    return FrameHeader(bytes(4), *shape, semantic_bytes=0, detail_bytes=size)


def _block(segments: Segments, mcs: Mcs) -> CodedBlock:
    """The segments as one column of symbols."""
    k = 8 * segments.length + _CRC_BITS
    symbols = -(-k * mcs.rate[1] // (mcs.rate[0] * mcs.bits_per_symbol))
    bits = symbols * mcs.bits_per_symbol
    return CodedBlock(segments.count, k, bits, mcs.bits_per_symbol, segments.count * symbols, 1, network=0)
