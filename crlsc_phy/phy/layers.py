"""Reading of a frame's layers from the symbols of a burst.

A signalling block that fails is tried again: the decoder's posterior improves the channel estimate, and that the next
decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import FrameError
from crlsc_phy.frame import SYMBOL, FrameHeader, SemanticFrame
from crlsc_phy.phy.blocks import Carriers, CodedBlock, Decoder
from crlsc_phy.phy.layout import Layout, header_block, pack_header, unpack_header, unpack_semantic
from crlsc_phy.phy.mcs import Mcs

__all__ = ["EqualisedSymbols", "HeaderPrior", "LayerReader", "Layers", "Receive", "Soft"]

SIGNALLING_ITERATIONS = 40
"""Most iterations of the LDPC decoder for blocks A and B."""
_DETAIL_ITERATIONS = 25
_TRIES = 3
# Weight of the headers before, with each new one.
_MEMORY = 0.8
# Count that every bit starts with: after one header its bits are expected at odds of 20 to 1.
_DOUBT = 0.05


T = TypeVar("T")
S = TypeVar("S", bound="Soft")

Receive = Callable[[NDArray[np.complex64]], S]
"""Estimator of a burst's symbols; its argument is the data of the first ones as far as they are known."""


@dataclass(frozen=True)
class Layers:
    """Layers of a burst as received. LLRs are log p(1)/p(0), as in Sionna.

    Attributes:
        frame: The frame; its ``semantic`` or ``detail`` is None where that layer is lost.
        segments: Segments of the digital detail.
        segment_failures: Segments whose CRC fails.
        llr: LLRs of the digital detail's coded bits before decoding, repetitions combined, float32 [segments * n].
        semantic_coded_llr: LLRs of the semantic layer's coded bits before decoding, float32 [40 (semantic_bytes + 2)],
            for :func:`crlsc_phy.phy.turbo.turbo_decode`.
        semantic_llr: LLRs of the air code's bits after decoding, most significant first, float32 [8 * semantic_bytes].
        symbols: Analog detail without bias, the symbols sent at unit mean power plus noise; complex64 [n].
        symbol_noise: Variance of that noise, float32 [n].
    """

    frame: SemanticFrame
    segments: int = 0
    segment_failures: int = 0
    llr: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    semantic_coded_llr: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    semantic_llr: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    symbols: NDArray[np.complex64] = field(default_factory=lambda: np.empty(0, np.complex64))
    symbol_noise: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def semantic_ok(self) -> bool:
        """True if the semantic layer's CRC holds."""
        return self.frame.semantic is not None


class Soft(Protocol):
    """Equalised data symbols of a burst, as far as it has been received."""

    def equalised(self, first: int = 0, count: int | None = None) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return the data of ``count`` symbols from ``first`` on, all that follow if None, and the noise on each.

        Returns:
            Symbols, complex64, and the variance of their noise, float32, both [count, data_carriers].
        """
        ...


@dataclass(frozen=True)
class EqualisedSymbols:
    """Symbols that come equalised, from a link without a waveform.

    Attributes:
        values: complex64 [symbols, data_carriers].
        noise: Variance of the noise on each, float32 of that shape.
    """

    values: NDArray[np.complex64]
    noise: NDArray[np.float32]

    def equalised(self, first: int = 0, count: int | None = None) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return a part of the symbols; see :class:`Soft`."""
        rows = slice(first, None if count is None else first + count)
        return self.values[rows], self.noise[rows]


@dataclass(frozen=True)
class _Read(Generic[T, S]):
    """A signalling block: its content or the reason why there is none, LLRs before and after decoding, its symbols."""

    value: T | None
    problem: FrameError | None
    llr: NDArray[np.float32]
    posterior: NDArray[np.float32]
    soft: S


@dataclass(frozen=True)
class LayerReader:
    """Reader of the layers of bursts, from symbols that a receiver estimates anew for each try or from given ones.

    Attributes:
        decoder: Decoder of the LDPC code.
        tries: Most estimates of a block's symbols, each but the first helped by the decoding before. 1 for symbols that
            no decoding improves.
    """

    decoder: Decoder = "min-sum"
    tries: int = _TRIES

    def header(
        self, receive: Receive[S], carriers: Carriers, prior: NDArray[np.float32] | None = None
    ) -> tuple[FrameHeader, Mcs]:
        """Read the header.

        Args:
            receive: Gives the symbols of block A at least.
            carriers: The numerology.
            prior: Prior LLRs of the bits of block A, float32 [1, k]; used where the block alone fails.

        Raises:
            FrameError: If it cannot be read.
        """
        nothing = np.empty((0, carriers.data_carriers), np.complex64)
        read = self._signalling(header_block(carriers), receive, nothing, unpack_header, prior)
        if read.value is None:
            raise read.problem or FrameError("signalling block is damaged")
        return read.value

    def layers(
        self, header: FrameHeader, layout: Layout, receive: Receive[S], known: NDArray[np.complex64]
    ) -> tuple[Layers, S]:
        """Read the layers behind the header.

        Args:
            header: The burst's header.
            layout: The burst's blocks.
            receive: Gives the symbols of the whole burst.
            known: Data of its first symbols, those of the header, complex64 [n, data_carriers]; of no symbols where
                the header was not sent.

        Returns:
            The layers, and the symbols that they were read from.
        """
        lost = SemanticFrame(header, None if layout.semantic else b"", None if header.detail_bytes else b"")
        layers, first = Layers(lost), len(known)
        if layout.semantic:
            unpack = partial(unpack_semantic, check=header.check)
            read = self._signalling(layout.semantic, receive, known, unpack)
            posterior = read.posterior[: 8 * header.semantic_bytes].copy()
            frame = replace(lost, semantic=read.value)
            layers = replace(layers, frame=frame, semantic_coded_llr=read.llr, semantic_llr=posterior)
            soft, first = read.soft, first + layout.semantic.symbols
        else:
            soft = receive(known)
        return self._detail(layers, layout, *soft.equalised(first)), soft

    def _detail(
        self, layers: Layers, layout: Layout, symbols: NDArray[np.complex64], noise: NDArray[np.float32]
    ) -> Layers:
        """Add the detail layer, read from the equalised data symbols behind the signalling."""
        frame = layers.frame
        if layout.detail and layout.segments:
            llr = layout.detail.soft_bits(symbols, noise)
            words, _ = layout.detail.decode(llr, _DETAIL_ITERATIONS, self.decoder)
            data, erasures, failures = layout.segments.join(words, frame.header.check)
            count = layout.segments.count
            if failures < count:
                frame = replace(frame, detail=data, erasures=erasures)
            return replace(layers, frame=frame, segments=count, segment_failures=failures, llr=llr.ravel())
        if layout.analog:
            analog, variance = layout.analog.soft_symbols(symbols, noise)
            # Linear estimates of least error for symbols of unit power: where a carrier faded they tend to zero.
            detail = (analog / (1 + variance)).astype(SYMBOL).tobytes()
            return replace(layers, frame=replace(frame, detail=detail), symbols=analog, symbol_noise=variance)
        return layers

    def _signalling(
        self,
        block: CodedBlock,
        receive: Receive[S],
        before: NDArray[np.complex64],
        unpack: Callable[[bytes], T],
        prior: NDArray[np.float32] | None = None,
    ) -> _Read[T, S]:
        """Read the signalling block behind the known symbols ``before``; ``prior`` is used where it alone fails."""
        known = before
        for tries in range(1, self.tries + 1):
            soft = receive(known)
            llr = block.soft_bits(*soft.equalised(len(before), block.symbols))
            for expected in (None,) if prior is None else (None, prior):
                words, posterior = block.decode(llr, SIGNALLING_ITERATIONS, self.decoder, expected)
                try:
                    return _Read(unpack(words[0].tobytes()), None, llr[0], posterior[0], soft)
                except FrameError as error:
                    problem = error
            if tries < self.tries:
                known = np.concatenate((before, block.expectation(llr, SIGNALLING_ITERATIONS, prior)))
        return _Read(None, problem, llr[0], posterior[0], soft)


class HeaderPrior:
    """Prior of a header's bits, learned from the headers read before, for one that noise makes hard to read.

    Sequence and CRCs differ from header to header and are never expected.
    """

    def __init__(self) -> None:
        # How often each bit was 0 and 1, the last header counting most.
        self._seen = np.zeros((2, 1, 1))

    @property
    def llr(self) -> NDArray[np.float32] | None:
        """LLRs of the bits of block A, log p(1)/p(0), float32 [1, k]; None before the first header."""
        if not self._seen.any():
            return None
        zeros, ones = self._seen + _DOUBT
        return np.asarray(self._settled * np.log(ones / zeros), np.float32)

    def learn(self, header: FrameHeader, mcs: Mcs) -> None:
        """Learn from a header that was read."""
        bits = pack_header(header, mcs)
        # The checks are linear: a bit that no single change of the sequence turns is turned by none.
        others = (replace(header, sequence=header.sequence ^ 1 << place) for place in range(16))
        self._settled = np.all([pack_header(other, mcs) == bits for other in others], axis=0)
        self._seen = _MEMORY * self._seen + [1 - bits, bits]
