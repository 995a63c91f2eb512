"""Tokens of the detail layer, without torch: residual quantisation, packing into bytes, erasures.

Tokens are ordered by level and then in raster order, so that a prefix of the detail layer is a coarser version of the
whole image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import FrameError

__all__ = ["ResidualQuantiser", "packed_size"]

Tokens = npt.NDArray[np.int64]


class ResidualQuantiser:
    """Quantiser with the codebooks of a trained detail coder.

    Args:
        codebooks: float32 [L, K, D], K a power of two.
    """

    def __init__(self, codebooks: npt.NDArray[np.float32]) -> None:
        self.codebooks = np.ascontiguousarray(codebooks, np.float32)
        self.levels, entries, self.dim = self.codebooks.shape
        self.bits = entries.bit_length() - 1
        self._norms = (self.codebooks**2).sum(axis=2)

    def encode(self, latent: npt.NDArray[np.float32], levels: int) -> Tokens:
        """Quantise a latent float32 [D, h, w] into tokens int64 [levels, h, w]."""
        _, height, width = latent.shape
        residual = latent.reshape(self.dim, -1).T.copy()
        tokens = np.empty((levels, height * width), np.int64)
        for level in range(levels):
            codebook = self.codebooks[level]
            tokens[level] = (self._norms[level] - 2 * residual @ codebook.T).argmin(axis=1)
            residual -= codebook[tokens[level]]
        return tokens.reshape(levels, height, width)

    def decode(self, tokens: Tokens, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return the latent float32 [D, h, w] of tokens int64 [levels, h, w], of which those in ``kept`` arrived.

        With a token the finer ones of its place are lost, since they refine it.
        """
        levels, height, width = tokens.shape
        whole = np.logical_and.accumulate(kept, axis=0)
        latent = np.zeros((height, width, self.dim), np.float32)
        for level in range(levels):
            latent += self.codebooks[level][tokens[level]] * whole[level, ..., None]
        return latent.transpose(2, 0, 1)

    def pack(self, tokens: Tokens) -> bytes:
        """Pack tokens into bytes, ``bits`` each, most significant bit first, zero-padded at the end."""
        shifts = np.arange(self.bits - 1, -1, -1)
        return np.packbits((tokens.reshape(-1, 1) >> shifts & 1).astype(np.uint8)).tobytes()

    def unpack(
        self, detail: bytes | None, erasures: tuple[tuple[int, int], ...], shape: tuple[int, int, int]
    ) -> tuple[Tokens, npt.NDArray[np.bool_]]:
        """Unpack the bytes of :meth:`pack`.

        Args:
            detail: Packed tokens; None if all are lost.
            erasures: Ranges ``(start, stop)`` of lost bytes.
            shape: ``(levels, h, w)``.

        Returns:
            Tokens int64, and bool, True where a token arrived; both of ``shape``.

        Raises:
            FrameError: If the length of ``detail`` does not fit ``shape``.
        """
        count = int(np.prod(shape))
        if detail is None:
            return np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        if len(detail) != packed_size(count, self.bits):
            raise FrameError(
                f"detail layer has {len(detail)} bytes; {count} tokens of {self.bits} bits need "
                f"{packed_size(count, self.bits)}"
            )
        shifts = np.arange(self.bits - 1, -1, -1)
        bits = np.unpackbits(np.frombuffer(detail, np.uint8))[: count * self.bits].reshape(count, self.bits)
        lost = np.zeros(len(detail), np.bool_)
        for start, stop in erasures:
            lost[start:stop] = True
        arrived = ~np.repeat(lost, 8)[: count * self.bits].reshape(count, self.bits).any(axis=1)
        return (bits.astype(np.int64) << shifts).sum(axis=1).reshape(shape), arrived.reshape(shape)


def packed_size(tokens: int, bits: int) -> int:
    """Return the number of bytes of ``tokens`` tokens of ``bits`` bits."""
    return (tokens * bits + 7) // 8
