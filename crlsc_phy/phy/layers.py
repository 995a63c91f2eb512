"""From the symbols of a burst to the layers of its frame.

A signalling block that fails is tried again: what its decoder believes makes a better channel estimate, and that a
better guess.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import FrameError
from crlsc_phy.frame import SYMBOL, FrameHeader, SemanticFrame
from crlsc_phy.phy.blocks import CodedBlock, Decoder
from crlsc_phy.phy.demodulator import Reception, equalise
from crlsc_phy.phy.layout import Layout, header_block, pack_header, unpack_header, unpack_semantic
from crlsc_phy.phy.mcs import Mcs
from crlsc_phy.phy.ofdm import Ofdm

__all__ = ["SIGNALLING_ITERATIONS", "Contents", "Detail", "LayerReader", "Opened", "Receive", "read_detail"]

SIGNALLING_ITERATIONS = 40
"""Of the LDPC decoder, at most, for blocks A and B."""
_DETAIL_ITERATIONS = 25
_TRIES = 3
# Of the count of the headers before, with each new one.
_MEMORY = 0.8
# Counts that every bit is given beforehand: after one header its bits are expected at 20 to 1.
_DOUBT = 0.05

T = TypeVar("T")

Receive = Callable[[NDArray[np.complex64]], Reception]
"""The demodulated symbols, given the data of the first ones as far as they are known."""


@dataclass(frozen=True)
class Opened:
    """What a burst's header says.

    Attributes:
        header, mcs: As sent.
        layout: The burst that they make.
    """

    header: FrameHeader
    mcs: Mcs
    layout: Layout


@dataclass(frozen=True)
class Contents:
    """What a burst holds.

    Attributes:
        frame: The frame, lost layers and bytes marked.
        reception: The symbols that it was read from.
        equalised: Data symbols, complex64 [symbols, data_carriers].
        evm_db: Error of those of the header, which are known, over their power.
        symbols_used: OFDM symbols up to the end of the last layer of which something arrived.
        segments, segment_failures: Segments of the digital detail, and how many of them failed.
        llr: Of the coded bits of the digital detail, float32 [bits].
        semantic_coded_llr: Of the coded bits of block B, float32 [bits].
        semantic_llr: Posterior, of the air code's bits, float32 [bits].
        symbols: Unbiased analog symbols, complex64 [count].
        symbol_noise: Variance of the noise on each, float32 [count].
    """

    frame: SemanticFrame
    reception: Reception
    equalised: NDArray[np.complex64]
    evm_db: float
    symbols_used: int
    segments: int
    segment_failures: int
    llr: NDArray[np.float32]
    semantic_coded_llr: NDArray[np.float32]
    semantic_llr: NDArray[np.float32]
    symbols: NDArray[np.complex64]
    symbol_noise: NDArray[np.float32]


@dataclass(frozen=True)
class Detail:
    """A detail layer as received.

    Attributes:
        data: Its bytes; None if all is lost.
        erasures: Ranges of them that are lost.
        segment_failures: Segments that failed.
        llr: As in :class:`Contents`.
        symbols: As there.
        symbol_noise: As there.
    """

    data: bytes | None = b""
    erasures: tuple[tuple[int, int], ...] = ()
    segment_failures: int = 0
    llr: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    symbols: NDArray[np.complex64] = field(default_factory=lambda: np.empty(0, np.complex64))
    symbol_noise: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))


def read_detail(
    layout: Layout, symbols: NDArray[np.complex64], noise: NDArray[np.float32], decoder: Decoder = "min-sum"
) -> Detail:
    """Read a detail layer.

    Args:
        layout: Of the burst.
        symbols: Its equalised data symbols behind the signalling, complex64 [symbols, data_carriers].
        noise: Variance of the noise on each, float32 of that shape.
        decoder: Of the LDPC code.
    """
    if layout.detail and layout.segments:
        soft = layout.detail.soft_bits(symbols, noise)
        words, _ = layout.detail.decode(soft, _DETAIL_ITERATIONS, decoder)
        data, erasures, failures = layout.segments.join(words)
        if failures == layout.segments.count:
            return Detail(None, (), failures, soft.ravel())
        return Detail(data, erasures, failures, soft.ravel())
    if layout.analog:
        analog, analog_noise = layout.analog.soft_symbols(symbols, noise)
        # Given unit power before, these estimates have the least error: where a carrier faded they tend to zero.
        data = (analog / (1 + analog_noise)).astype(SYMBOL).tobytes()
        return Detail(data, symbols=analog, symbol_noise=analog_noise)
    return Detail()


@dataclass(frozen=True)
class _Read(Generic[T]):
    """A signalling block: what it says or why it says nothing, its LLRs before and after, and its reception."""

    value: T | None
    problem: FrameError | None
    llr: NDArray[np.float32]
    posterior: NDArray[np.float32]
    reception: Reception


class LayerReader:
    """Reads the bursts of one numerology.

    Args:
        ofdm: Its carriers.
        decoder: Of the LDPC code.
    """

    def __init__(self, ofdm: Ofdm, decoder: Decoder = "min-sum") -> None:
        self._ofdm = ofdm
        self._decoder = decoder
        self._habits = _Habits()

    def open(self, receive: Receive) -> Opened:
        """Read the header.

        Args:
            receive: Gives the symbols of block A at least.

        Raises:
            FrameError: If it cannot be read.
        """
        numerology = self._ofdm.numerology
        block = header_block(numerology)
        nothing = np.empty((0, numerology.data_carriers), np.complex64)
        read = self._signalling(block, receive, nothing, unpack_header, self._habits.prior)
        if read.value is None:
            raise read.problem or FrameError("signalling block is damaged")
        header, mcs = read.value
        self._habits.learn(header, mcs)
        return Opened(header, mcs, Layout.of(numerology, header, mcs))

    def read(self, opened: Opened, receive: Receive) -> Contents:
        """Read the layers.

        Args:
            opened: The header.
            receive: Gives the symbols of the whole burst.
        """
        header, layout = opened.header, opened.layout
        known = layout.header.modulate(pack_header(header, opened.mcs))
        first = used = len(known)
        semantic: bytes | None = b""
        semantic_coded_llr = semantic_llr = np.empty(0, np.float32)
        if layout.semantic:
            read = self._signalling(layout.semantic, receive, known, unpack_semantic)
            reception, semantic = read.reception, read.value
            semantic_coded_llr, semantic_llr = read.llr, read.posterior[: 8 * header.semantic_bytes].copy()
            first += layout.semantic.symbols
            used = first if semantic is not None else used
        else:
            reception = receive(known)
        symbols, noise = equalise(self._ofdm, reception)
        detail = read_detail(layout, symbols[first:], noise[first:], self._decoder)
        return Contents(
            frame=SemanticFrame(header, semantic, detail.data, detail.erasures),
            reception=reception,
            equalised=symbols,
            evm_db=10 * float(np.log10(max(np.mean(np.abs(symbols[: len(known)] - known) ** 2), 1e-12))),
            symbols_used=used if detail.data is None else layout.symbols,
            segments=layout.segments.count if layout.segments else 0,
            segment_failures=detail.segment_failures,
            llr=detail.llr,
            semantic_coded_llr=semantic_coded_llr,
            semantic_llr=semantic_llr,
            symbols=detail.symbols,
            symbol_noise=detail.symbol_noise,
        )

    def _signalling(
        self,
        block: CodedBlock,
        receive: Receive,
        before: NDArray[np.complex64],
        unpack: Callable[[bytes], T],
        prior: NDArray[np.float32] | None = None,
    ) -> _Read[T]:
        """Read the signalling block behind the known symbols ``before``.

        ``prior`` is what its bits may be expected to be, float32 [1, k]; it is asked where the block alone fails.
        """
        first = len(before)
        known, tries = before, 0
        while True:
            tries += 1
            reception = receive(known)
            llr = block.soft_bits(*equalise(self._ofdm, reception, first, block.symbols))
            for expected in (None,) if prior is None else (None, prior):
                words, posterior = block.decode(llr, SIGNALLING_ITERATIONS, self._decoder, expected)
                try:
                    return _Read(unpack(words[0].tobytes()), None, llr[0], posterior[0], reception)
                except FrameError as error:
                    problem = error
            if tries == _TRIES:
                return _Read(None, problem, llr[0], posterior[0], reception)
            known = np.concatenate((before, block.expectation(llr, SIGNALLING_ITERATIONS, prior)))


class _Habits:
    """What the headers that were read have in common, as a prior for one that is hard to read.

    Sequence and checks differ from header to header and are never expected.
    """

    def __init__(self) -> None:
        # How often each bit was 0 and 1, the last header counting most.
        self._seen = np.zeros((2, 1, 1))

    @property
    def prior(self) -> NDArray[np.float32] | None:
        """Of the bits of block A, log p(1)/p(0), float32 [1, k]; None before the first header."""
        if not self._seen.any():
            return None
        zeros, ones = self._seen + _DOUBT
        return np.asarray(self._settled * np.log(ones / zeros), np.float32)

    def learn(self, header: FrameHeader, mcs: Mcs) -> None:
        """Take note of a header."""
        bits = pack_header(header, mcs)
        # The checks are linear: a bit that no single change of the sequence turns is turned by none.
        others = (dataclasses.replace(header, sequence=header.sequence ^ 1 << place) for place in range(16))
        self._settled = np.all([pack_header(other, mcs) == bits for other in others], axis=0)
        self._seen = _MEMORY * self._seen + [1 - bits, bits]
