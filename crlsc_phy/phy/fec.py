"""The 5G LDPC code of 3GPP TS 38.212, 5.2.2, 5.3.2 and 5.4.2: construction, encoding and rate matching.

    bits [k] -> fillers -> base graph, lifted by Z -> drop first 2 Z and fillers -> first n (rv 0) -> bit interleaver

Coded bits equal those of Sionna's ``LDPC5GEncoder(k, n, num_bits_per_symbol)``.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import ModemError
from crlsc_phy.machine import compiled
from crlsc_phy.phy.ldpc_decoder import decode_layered

__all__ = ["DECODERS", "Decoder", "LdpcCode", "crc24", "ldpc_code"]

Decoder = Literal["min-sum", "sionna"]
DECODERS: tuple[Decoder, ...] = ("min-sum", "sionna")
"""This package's layered min-sum, and Sionna's belief propagation as the reference."""

# TS 38.212 Table 5.3.2-1: lifting sizes of the sets i_LS = 0..7 are these factors times powers of two.
_SET_FACTORS = (2, 3, 5, 7, 9, 11, 13, 15)
_MAX_LIFTING = 384
_CORE_ROWS = 4


class LdpcCode:
    """Encoder and decoder of one (k, n) code; :func:`ldpc_code` makes and caches them.

    Args:
        k: Information bits of a word.
        n: Coded bits of a word.
        bits_per_symbol: Bits of a QAM symbol.

    Attributes:
        k: Information bits.
        n: Coded bits after rate matching, a multiple of ``bits_per_symbol``.
        bits_per_symbol: Order of the bit interleaver (TS 38.212, 5.4.2.2).
        base_graph: 1 or 2.
        lifting: Lifting size Z, the bits of a block.

    Raises:
        ModemError: If TS 38.212 has no such code.
    """

    def __init__(self, k: int, n: int, bits_per_symbol: int) -> None:
        if not 12 <= k <= 8448 or not n / 5 <= k <= 0.95 * n or bits_per_symbol < 1 or n % bits_per_symbol:
            raise ModemError(
                f"no LDPC code with k = {k}, n = {n}, {bits_per_symbol} bits a symbol; "
                "k must be within 12 to 8448, k / n within 1/5 to 0.95, and n a multiple of the bits of a symbol"
            )
        self.k, self.n, self.bits_per_symbol = k, n, bits_per_symbol
        self.base_graph = 2 if k <= 292 or (k <= 3824 and k / n <= 0.67) or k / n <= 0.25 else 1
        if (self.base_graph == 1 and 3 * k < n) or (self.base_graph == 2 and k > 3840):
            raise ModemError(f"no LDPC code with k = {k}, n = {n}: cut the data into segments of 3824 bits or fewer")
        self.lifting, set_index = _select_lifting(k, self.base_graph)
        table = _load_base_graph(self.base_graph)
        z = self.lifting
        info_columns = 22 if self.base_graph == 1 else 10
        self._k_padded = info_columns * z
        # A row whose parity block is not sent constrains nothing, and is left out.
        columns = -(-(n + self._k_padded - k + 2 * z) // z)
        rows = max(_CORE_ROWS, min(columns - info_columns, int(table[-1, 0]) + 1))
        self._columns = info_columns + rows
        kept = table[table[:, 0] < rows]
        self._row_start = np.searchsorted(kept[:, 0], np.arange(rows + 1)).astype(np.int32)
        self._edge_column = kept[:, 1].astype(np.int32)
        self._edge_shift = (kept[:, 2 + set_index] % z).astype(np.int32)
        # In the core, the first parity block has one shift in rows 0 and 3, and another in one more row.
        first_parity = kept[kept[:, 1] == info_columns]
        self._core_shifts = int(first_parity[0, 2 + set_index] % z), int(first_parity[1, 2 + set_index] % z)
        sent = np.r_[np.arange(2 * z, k), np.arange(self._k_padded, self._columns * z)][:n]
        # Position of each coded bit in the unpunctured word, bit interleaver included.
        self._source = sent.reshape(bits_per_symbol, -1).T.ravel()

    def encode(self, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Encode words.

        Args:
            bits: 0 or 1, uint8 [words, k].

        Returns:
            Coded bits, uint8 [words, n].
        """
        word = np.zeros((len(bits), self._columns * self.lifting), np.uint8)
        word[:, : self.k] = bits
        blocks = word.reshape(len(bits), self._columns, self.lifting)
        _encode(blocks, self._row_start, self._edge_column, self._edge_shift, *self._core_shifts, self.base_graph)
        return word[:, self._source]

    def decode(
        self, llr: NDArray[np.float32], iterations: int = 20, prior: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int32]]:
        """Decode words by layered normalised min-sum.

        Args:
            llr: log p(1)/p(0) of the coded bits, float32 [words, n].
            iterations: Most sweeps over the checks; a word stops when all its checks hold.
            prior: log p(1)/p(0) of the information bits from another source, float32 [words, k].

        Returns:
            Posterior LLRs of the information bits, float32 [words, k]; whether all checks hold, bool [words]; and
            the iterations spent, int32 [words].
        """
        word, valid, spent = self._decode(llr, iterations, prior)
        return word[:, : self.k], valid, spent

    def refine(
        self, llr: NDArray[np.float32], iterations: int = 20, prior: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return posterior LLRs of the coded bits.

        Args:
            llr: log p(1)/p(0) of the coded bits, float32 [words, n].
            iterations: Most sweeps over the checks.
            prior: log p(1)/p(0) of the information bits from another source, float32 [words, k].

        Returns:
            log p(1)/p(0), float32 [words, n].
        """
        word, _, _ = self._decode(llr, iterations, prior)
        return word[:, self._source]

    def decode_reference(self, llr: NDArray[np.float32], iterations: int = 20) -> NDArray[np.float32]:
        """Decode words by Sionna's belief propagation.

        Args:
            llr: log p(1)/p(0) of the coded bits, float32 [words, n].
            iterations: Sweeps over the checks.

        Returns:
            Posterior LLRs of the information bits, float32 [words, k].

        Raises:
            ModemError: If Sionna is not installed.
        """
        try:
            import torch

            decoder = _sionna_decoder(self.k, self.n, self.bits_per_symbol, iterations)
        except ImportError as error:
            raise ModemError(f"the reference decoder needs Sionna: {error}; pip install 'crlsc-phy[sionna]'") from None
        return np.asarray(decoder(torch.from_numpy(np.asarray(llr, np.float32))).numpy(), np.float32)

    def _decode(
        self, llr: NDArray[np.float32], iterations: int, prior: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int32]]:
        word = np.zeros((len(llr), self._columns * self.lifting), np.float32)
        word[:, self._source] = llr
        if prior is not None:
            word[:, : self.k] += prior
        word[:, self.k : self._k_padded] = -1e6
        valid, spent = decode_layered(
            word, self._row_start, self._edge_column, self._edge_shift, self.lifting, iterations
        )
        return word, valid, spent


@lru_cache(maxsize=64)
def ldpc_code(k: int, n: int, bits_per_symbol: int) -> LdpcCode:
    """Return a code, from the cache if it was made before.

    Args:
        k: Information bits of a word.
        n: Coded bits of a word.
        bits_per_symbol: Bits of a QAM symbol.

    Raises:
        ModemError: If TS 38.212 has no such code.
    """
    return LdpcCode(k, n, bits_per_symbol)


@lru_cache(maxsize=64)
def _sionna_decoder(k: int, n: int, bits_per_symbol: int, iterations: int) -> Any:
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

    return LDPC5GDecoder(LDPC5GEncoder(k, n, bits_per_symbol), num_iter=iterations, hard_out=False)


def crc24(data: bytes) -> bytes:
    """Return the CRC24B of TS 38.212, 5.1, most significant byte first."""
    return int(_crc24(np.frombuffer(data, np.uint8))).to_bytes(3, "big")


@compiled()
def _crc24(data: NDArray[np.uint8]) -> np.uint32:
    register = np.uint32(0)
    for byte in data:
        register ^= np.uint32(byte) << np.uint32(16)
        for _ in range(8):
            register <<= np.uint32(1)
            if register & np.uint32(0x1000000):
                register ^= np.uint32(0x1800063)
    return register


def _select_lifting(k: int, base_graph: int) -> tuple[int, int]:
    """Return the lifting size and the index i_LS of its set (TS 38.212, 5.2.2)."""
    columns = 22 if base_graph == 1 else 10 if k > 640 else 9 if k > 560 else 8 if k > 192 else 6
    sizes = (
        (factor << power, index)
        for index, factor in enumerate(_SET_FACTORS)
        for power in range(8)
        if factor << power <= _MAX_LIFTING
    )
    return min((size, index) for size, index in sizes if columns * size >= k)


@lru_cache(maxsize=2)
def _load_base_graph(number: int) -> NDArray[np.int64]:
    """Read the edges of a base graph, int64 [edges, 10]: row, column, shift in set 0 to 7; sorted by row."""
    text = files(__package__).joinpath(f"tables/base_graph_{number}.csv").read_text()
    return np.loadtxt(text.splitlines()[2:], delimiter=",", dtype=np.int64)


@compiled(nogil=True)
def _encode(
    words: NDArray[np.uint8],
    row_start: NDArray[np.int32],
    column: NDArray[np.int32],
    shift: NDArray[np.int32],
    outer_shift: int,
    inner_shift: int,
    base_graph: int,
) -> None:
    """Fill in the parity blocks of ``words`` [words, columns, z], which must be zero."""
    k = 22 if base_graph == 1 else 10
    rows = len(row_start) - 1
    z = words.shape[2]
    sums = np.empty((4, z), np.uint8)
    for w in range(len(words)):
        blocks = words[w]
        sums[:] = 0
        for r in range(4):
            for e in range(row_start[r], row_start[r + 1]):
                if column[e] < k:
                    _add_shifted(sums[r], blocks[column[e]], shift[e])
        p0, p1, p2, p3 = blocks[k], blocks[k + 1], blocks[k + 2], blocks[k + 3]
        # In the sum of the four rows only the first parity block remains, with the shift that occurs once.
        for i in range(z):
            p0[(i + inner_shift) % z] = sums[0, i] ^ sums[1, i] ^ sums[2, i] ^ sums[3, i]
        _add_shifted(p1, sums[0], 0)
        _add_shifted(p1, p0, outer_shift)
        _add_shifted(p3, sums[3], 0)
        _add_shifted(p3, p0, outer_shift)
        _add_shifted(p2, sums[2] if base_graph == 1 else sums[1], 0)
        _add_shifted(p2, p3 if base_graph == 1 else p1, 0)
        for r in range(4, rows):
            for e in range(row_start[r], row_start[r + 1] - 1):
                _add_shifted(blocks[k + r], blocks[column[e]], shift[e])


@compiled(nogil=True)
def _add_shifted(target: NDArray[np.uint8], block: NDArray[np.uint8], shift: int) -> None:
    z = len(block)
    for i in range(z - shift):
        target[i] ^= block[i + shift]
    for i in range(z - shift, z):
        target[i] ^= block[i + shift - z]
