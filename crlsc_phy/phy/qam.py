"""QPSK, 16-QAM and 64-QAM with the Gray mapping of 3GPP TS 38.211, 5.1, and exact soft demapping.

Even bits select the real part, odd bits the imaginary part; each is a Gray-coded PAM of half the bits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.machine import compiled

__all__ = ["demap", "map_bits"]


@lru_cache(maxsize=3)
def _pam(bits: int) -> NDArray[np.float32]:
    """Return the PAM level of each label of ``bits`` bits; two of them make a QAM of unit mean power."""
    level = np.zeros(1 << bits)
    for label in range(1 << bits):
        value = 1
        for position in range(bits):
            sign = 1 - 2 * (label >> position & 1)
            value = sign * (value if position == 0 else (1 << position) - value)
        level[label] = value
    return np.asarray(level / np.sqrt(2 * np.mean(level**2)), np.float32)


def map_bits(bits: NDArray[np.uint8], bits_per_symbol: int) -> NDArray[np.complex64]:
    """Map bits to symbols of unit mean power.

    Args:
        bits: 0 or 1, uint8 [symbols * bits_per_symbol].
        bits_per_symbol: 2, 4 or 6.

    Returns:
        complex64 [symbols].
    """
    half = bits_per_symbol // 2
    weights = 1 << np.arange(half - 1, -1, -1)
    labels = np.einsum("shd,h->sd", np.asarray(bits, np.uint8).reshape(-1, half, 2), weights)
    return np.ascontiguousarray(_pam(half)[labels]).view(np.complex64).ravel()


def demap(symbols: NDArray[np.complex64], noise: NDArray[np.float32], bits_per_symbol: int) -> NDArray[np.float32]:
    """Return the exact LLRs of the bits of equalised symbols.

    Args:
        symbols: complex64 [n], unit mean power.
        noise: Variance of the complex noise on each symbol, float32 [n].
        bits_per_symbol: 2, 4 or 6.

    Returns:
        log p(1)/p(0), float32 [n * bits_per_symbol].
    """
    symbols, noise = np.ascontiguousarray(symbols, np.complex64), np.asarray(noise, np.float32)
    if bits_per_symbol == 2:
        # With one bit per dimension, the log-ratio of two Gaussians is linear in the received value.
        scaled = symbols * (np.float32(-2 * np.sqrt(2)) / noise)
        return scaled.astype(np.complex64).view(np.float32)
    parts = symbols.view(np.float32).reshape(-1, 2)
    return _demap_pam(parts, noise, _pam(bits_per_symbol // 2), bits_per_symbol // 2).ravel()


@compiled(nogil=True)
def _demap_pam(
    parts: NDArray[np.float32], noise: NDArray[np.float32], levels: NDArray[np.float32], bits: int
) -> NDArray[np.float32]:
    llr = np.empty((len(parts), bits, 2), np.float32)
    exponents = np.empty(len(levels), np.float32)
    for s in range(len(parts)):
        for part in range(2):
            for label in range(len(levels)):
                exponents[label] = -((parts[s, part] - levels[label]) ** 2) / noise[s]
            for bit in range(bits):
                # Factor the largest term out of each sum, so that neither logarithm underflows.
                top0, top1 = np.float32(-np.inf), np.float32(-np.inf)
                for label in range(len(levels)):
                    if label >> (bits - 1 - bit) & 1:
                        top1 = max(top1, exponents[label])
                    else:
                        top0 = max(top0, exponents[label])
                sum0, sum1 = np.float32(0), np.float32(0)
                for label in range(len(levels)):
                    if label >> (bits - 1 - bit) & 1:
                        sum1 += np.exp(exponents[label] - top1)
                    else:
                        sum0 += np.exp(exponents[label] - top0)
                llr[s, bit, part] = top1 - top0 + np.log(sum1 / sum0)
    return llr
