"""Blocks of a burst, each of whole OFDM symbols: bytes or analog symbols to data symbols, and back.

bytes -> segments + CRC -> 5G LDPC -> repeated to fill the block -> scrambled -> QAM -> spread over the block
analog symbols -> unit mean power -> repeated to fill the block -> scrambled -> spread over the block

Spreading sets neighbours far apart in time and frequency, so that no region of a picture lies on one faded carrier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import ModemError
from crlsc_phy.phy import qam
from crlsc_phy.phy.fec import Decoder, LdpcCode, crc24, ldpc_code
from crlsc_phy.phy.mcs import Mcs
from crlsc_phy.phy.sequences import gold, spread

__all__ = [
    "AnalogBlock",
    "Carriers",
    "CodedBlock",
    "Decoder",
    "Segments",
    "analog_block",
    "detail_block",
    "signalling_block",
    "signalling_code",
]

MAX_SEGMENT_BYTES = 192
"""Bytes of the detail layer in a segment: what one failed CRC erases."""

_CRC_BYTES = 3
_SIGNALLING_RATE = (1, 5)
_SCRAMBLER_SEED = 0xC0DE


class Carriers(Protocol):
    """Part of a :class:`crlsc_phy.phy.Numerology` on which blocks depend."""

    @property
    def data_carriers(self) -> int: ...

    @property
    def network(self) -> int: ...

    @property
    def signalling_repetition(self) -> int: ...


@dataclass(frozen=True)
class CodedBlock:
    """A run of OFDM symbols that carries LDPC words of one kind.

    Attributes:
        words: LDPC words in the block.
        k: Information bits a word.
        n: Coded bits a word.
        bits_per_symbol: Bits of a QAM symbol.
        symbols: OFDM symbols.
        data_carriers: Data symbols an OFDM symbol.
        network: Network number of the numerology, which seeds the scrambler.
    """

    words: int
    k: int
    n: int
    bits_per_symbol: int
    symbols: int
    data_carriers: int
    network: int

    @classmethod
    def build(
        cls, words: int, k: int, rate: tuple[int, int], bits_per_symbol: int, repetition: int, carriers: Carriers
    ) -> CodedBlock:
        """Return the shortest block for some words.

        Args:
            words: LDPC words.
            k: Information bits a word.
            rate: Code rate, numerator and denominator.
            bits_per_symbol: Bits of a QAM symbol.
            repetition: Times that each coded bit is sent.
            carriers: The numerology.
        """
        coded_symbols = -(-k * rate[1] // (rate[0] * bits_per_symbol))
        symbols = -(-words * coded_symbols * repetition // carriers.data_carriers)
        n = coded_symbols * bits_per_symbol
        return cls(words, k, n, bits_per_symbol, symbols, carriers.data_carriers, carriers.network)

    def coded_bits(self, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the coded bits, uint8 [words, n], of information bits, uint8 [words, k]."""
        return ldpc_code(self.k, self.n, self.bits_per_symbol).encode(bits)

    def modulate(self, bits: NDArray[np.uint8]) -> NDArray[np.complex64]:
        """Return the data symbols, complex64 [symbols, data_carriers], of information bits, uint8 [words, k]."""
        coded = self.coded_bits(bits).ravel()
        capacity = self.symbols * self.data_carriers
        # The rest of the last OFDM symbol repeats the first bits, which is gain where padding would be none.
        filled = np.resize(coded, capacity * self.bits_per_symbol)
        placed = np.empty(capacity, np.complex64)
        placed[spread(capacity)] = qam.map_bits(filled ^ self._scrambler(capacity), self.bits_per_symbol)
        return placed.reshape(self.symbols, self.data_carriers)

    def soft_bits(self, symbols: NDArray[np.complex64], noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the LLRs of the coded bits, repetitions combined.

        Args:
            symbols: Equalised data symbols, complex64 [symbols, data_carriers].
            noise: Variance of the noise on each, float32 [symbols, data_carriers].

        Returns:
            log p(1)/p(0), float32 [words, n].
        """
        capacity = self.symbols * self.data_carriers
        order = spread(capacity)
        llr = qam.demap(symbols.ravel()[order], noise.ravel()[order], self.bits_per_symbol)
        llr *= 1 - 2 * self._scrambler(capacity).astype(np.float32)
        coded = self.words * self.n
        padded = np.zeros(-(-len(llr) // coded) * coded, np.float32)
        padded[: len(llr)] = llr
        combined: NDArray[np.float32] = padded.reshape(-1, self.words, self.n).sum(axis=0)
        return combined

    def decode(
        self,
        llr: NDArray[np.float32],
        iterations: int,
        decoder: Decoder = "min-sum",
        prior: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Decode the words.

        Args:
            llr: LLRs of the coded bits, float32 [words, n].
            iterations: Most iterations.
            decoder: Decoder where there is no prior; only min-sum takes one.
            prior: Prior LLRs of the information bits, float32 [words, k], or None.

        Returns:
            Bytes, uint8 [words, k / 8], and posterior LLRs of their bits, float32 [words, k].
        """
        code = ldpc_code(self.k, self.n, self.bits_per_symbol)
        if decoder == "min-sum" or prior is not None:
            posterior = code.decode(llr, iterations, prior)[0]
        else:
            posterior = code.decode_reference(llr, iterations)
        return np.packbits(posterior > 0, axis=1), posterior

    def expectation(
        self, llr: NDArray[np.float32], iterations: int, prior: NDArray[np.float32] | None = None
    ) -> NDArray[np.complex64]:
        """Return the posterior mean of the data symbols after decoding; QPSK only.

        Args:
            llr: LLRs of the coded bits, float32 [words, n].
            iterations: Iterations of the decoder.
            prior: Prior LLRs of the information bits, float32 [words, k], or None.

        Returns:
            complex64 [symbols, data_carriers], of magnitude 1 where the bits are certain and 0 where nothing is known.
        """
        posterior = ldpc_code(self.k, self.n, self.bits_per_symbol).refine(llr, iterations, prior).ravel()
        capacity = self.symbols * self.data_carriers
        signs = np.tanh(np.resize(posterior, 2 * capacity) * np.float32(-0.5)) * np.float32(np.sqrt(0.5))
        signs *= 1 - 2 * self._scrambler(capacity).astype(np.float32)
        placed = np.empty(capacity, np.complex64)
        placed[spread(capacity)] = signs.view(np.complex64)
        return placed.reshape(self.symbols, self.data_carriers)

    def _scrambler(self, capacity: int) -> NDArray[np.uint8]:
        bits = capacity * self.bits_per_symbol
        return _scrambler(bits, self.network)


@dataclass(frozen=True)
class AnalogBlock:
    """A run of OFDM symbols that carries complex numbers.

    Attributes:
        count: Analog symbols.
        symbols: OFDM symbols.
        data_carriers: Data symbols an OFDM symbol.
        network: Network number of the numerology, which seeds the scrambler.
    """

    count: int
    symbols: int
    data_carriers: int
    network: int

    def modulate(self, values: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Return data symbols of unit mean power, complex64 [symbols, data_carriers], of analog symbols [count].

        Raises:
            ModemError: If the symbols are not finite or have no power.
        """
        power = float(np.mean(np.abs(values.astype(np.complex128)) ** 2))
        if not (np.isfinite(power) and power > 0):
            raise ModemError(f"analog detail has a mean power of {power}; it must be finite and positive")
        capacity = self.symbols * self.data_carriers
        placed = np.empty(capacity, np.complex64)
        placed[spread(capacity)] = np.resize(values / np.float32(np.sqrt(power)), capacity) * self._scrambler()
        return placed.reshape(self.symbols, self.data_carriers)

    def soft_symbols(
        self, symbols: NDArray[np.complex64], noise: NDArray[np.float32]
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Undo :meth:`modulate` without a decision; repetitions are combined by maximum ratio.

        Args:
            symbols: Equalised data symbols, complex64 [symbols, data_carriers].
            noise: Variance of the noise on each, float32 [symbols, data_carriers].

        Returns:
            Unbiased symbols, complex64 [count], and the variance of the noise on each, float32 [count].
        """
        order = spread(self.symbols * self.data_carriers)
        received, weight = symbols.ravel()[order] * self._scrambler().conj(), 1 / noise.ravel()[order]
        place = np.arange(len(order)) % self.count
        total = np.bincount(place, weight, self.count)
        real = np.bincount(place, received.real * weight, self.count)
        imaginary = np.bincount(place, received.imag * weight, self.count)
        return ((real + 1j * imaginary) / total).astype(np.complex64), (1 / total).astype(np.float32)

    def _scrambler(self) -> NDArray[np.complex64]:
        """Quarter turns, so that equal symbols do not add up to peaks, complex64 [symbols * data_carriers]."""
        bits = 2 * self.symbols * self.data_carriers
        signs = 1 - 2 * _scrambler(bits, self.network).astype(np.float32)
        return signs.view(np.complex64) * np.float32(np.sqrt(0.5))


def analog_block(count: int, mcs: Mcs, carriers: Carriers) -> AnalogBlock:
    """Return the shortest block for analog symbols.

    Args:
        count: Analog symbols.
        mcs: Entry of the analog table, which says how often each is sent.
        carriers: The numerology.
    """
    symbols = -(-count * mcs.rate[1] // carriers.data_carriers)
    return AnalogBlock(count, symbols, carriers.data_carriers, carriers.network)


def signalling_code(size: int) -> LdpcCode:
    """Return the code of the most robust format, for ``size`` bytes."""
    k = 8 * size
    return ldpc_code(k, k * _SIGNALLING_RATE[1] // _SIGNALLING_RATE[0], 2)


def signalling_block(size: int, carriers: Carriers) -> CodedBlock:
    """Return the block for ``size`` bytes in the most robust format: QPSK, rate 1/5, repeated."""
    return CodedBlock.build(1, 8 * size, _SIGNALLING_RATE, 2, carriers.signalling_repetition, carriers)


@dataclass(frozen=True)
class Segments:
    """Equal segments of a detail layer, the last one filled up with zero bytes.

    Attributes:
        size: Bytes of the detail layer.
        count: Segments.
        length: Bytes of a segment without its CRC.
    """

    size: int
    count: int
    length: int

    @classmethod
    def of(cls, size: int) -> Segments:
        """Return the segments of a detail layer of ``size`` bytes, at least 1."""
        count = -(-size // MAX_SEGMENT_BYTES)
        length = -(-size // count)
        return cls(size, -(-size // length), length)

    def split(self, data: bytes, check: int) -> NDArray[np.uint8]:
        """Return the bits of the segments with their CRCs.

        Args:
            data: The detail layer.
            check: CRC of the header, from which those of the segments start.

        Returns:
            uint8 [count, 8 * (length + 3)].
        """
        padded = data.ljust(self.count * self.length, b"\0")
        parts = (padded[i : i + self.length] for i in range(0, len(padded), self.length))
        words = b"".join(part + _check(part, check) for part in parts)
        return np.unpackbits(np.frombuffer(words, np.uint8)).reshape(self.count, -1)

    def join(self, words: NDArray[np.uint8], check: int) -> tuple[bytes, tuple[tuple[int, int], ...], int]:
        """Undo :meth:`split`.

        Args:
            words: Bytes with CRCs, uint8 [count, length + 3].
            check: CRC of the header that they came with.

        Returns:
            The layer with failed segments zeroed, the byte ranges they cover (neighbours merged), and their number.
        """
        parts: list[bytes] = []
        holes: list[tuple[int, int]] = []
        failed = 0
        for index, word in enumerate(words):
            data = word[: self.length].tobytes()
            if _check(data, check) == word[self.length :].tobytes():
                parts.append(data)
                continue
            failed += 1
            parts.append(bytes(self.length))
            start, stop = index * self.length, min((index + 1) * self.length, self.size)
            if holes and holes[-1][1] == start:
                start = holes.pop()[0]
            holes.append((start, stop))
        return b"".join(parts)[: self.size], tuple(holes), failed


def detail_block(segments: Segments, mcs: Mcs, carriers: Carriers) -> CodedBlock:
    """Return the block for a segmented detail layer.

    Args:
        segments: Its segments.
        mcs: Entry of the digital table.
        carriers: The numerology.
    """
    k = 8 * (segments.length + _CRC_BYTES)
    return CodedBlock.build(segments.count, k, mcs.rate, mcs.bits_per_symbol, 1, carriers)


def _scrambler(bits: int, network: int) -> NDArray[np.uint8]:
    # Drawn in powers of two, so that blocks of all lengths share a few cached sequences.
    return gold(1 << (bits - 1).bit_length(), _SCRAMBLER_SEED + network)[:bits]


def _check(segment: bytes, start: int) -> bytes:
    """Return the CRC-24 of the header's CRC and a segment, inverted.

    The decoder's answer to silence is all zeros, and that must not pass.
    """
    return bytes(byte ^ 0xFF for byte in crc24(start.to_bytes(2, "big") + segment))
