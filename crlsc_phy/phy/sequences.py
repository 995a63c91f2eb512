"""Pseudo-random sequences known to both ends: the Gold sequence, and a spreading permutation."""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.machine import compiled

__all__ = ["gold", "spread"]


@lru_cache(maxsize=64)
def gold(length: int, seed: int) -> NDArray[np.uint8]:
    """Return bits of the length-31 Gold sequence of TS 38.211, 5.2.1.

    Args:
        length: Bits wanted.
        seed: Initial state c_init of the second register, below 2**31.

    Returns:
        0 or 1, uint8 [length], read-only.
    """
    bits: NDArray[np.uint8] = _gold(length, seed)
    bits.flags.writeable = False
    return bits


@compiled()
def _gold(length: int, seed: int) -> NDArray[np.uint8]:
    out = np.empty(length, np.uint8)
    first, second = np.uint32(1), np.uint32(seed)
    one = np.uint32(1)
    skip = 1600
    for i in range(skip + length):
        if i >= skip:
            out[i - skip] = (first ^ second) & one
        new_first = (first >> np.uint32(3) ^ first) & one
        new_second = (second >> np.uint32(3) ^ second >> np.uint32(2) ^ second >> one ^ second) & one
        first = first >> one | new_first << np.uint32(30)
        second = second >> one | new_second << np.uint32(30)
    return out


@lru_cache(maxsize=64)
def spread(length: int) -> NDArray[np.int64]:
    """Return a permutation that sets neighbours far apart: i -> i * stride mod length, a golden section as the stride.

    Args:
        length: Positions.

    Returns:
        Position of each item, int64 [length], read-only.
    """
    stride = max(1, round(length * 0.6180339887))
    while gcd(stride, length) > 1:
        stride += 1
    positions = np.arange(length) * stride % length
    positions.flags.writeable = False
    return positions
