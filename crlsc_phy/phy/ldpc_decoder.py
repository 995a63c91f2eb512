"""Layered normalised min-sum decoding of quasi-cyclic LDPC codes.

After D. E. Hocevar, "A reduced complexity decoder architecture via layered decoding of LDPC codes", SIPS 2004;
J. Chen and M. Fossorier, "Near optimum universal belief propagation based decoding of low-density
parity check codes", IEEE Transactions on Communications, vol. 50, no. 3, 2002.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.machine import compiled

__all__ = ["decode_layered"]

# Min-sum overestimates the messages of a check; this factor, found by simulation on both base graphs, corrects that.
_NORMALISATION = np.float32(0.75)


@compiled(nogil=True, fastmath={"nnan", "ninf", "nsz", "contract"})
def decode_layered(
    llr: NDArray[np.float32],
    row_start: NDArray[np.int32],
    column: NDArray[np.int32],
    shift: NDArray[np.int32],
    z: int,
    iterations: int,
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Turn channel LLRs into posterior LLRs in place.

    Row r of the base graph has the edges ``row_start[r]`` up to, not including, ``row_start[r + 1]``. Edge e joins
    check i of the row with bit ``(i + shift[e]) % z`` of block ``column[e]``. The z checks of a row do not share bits,
    so a row is a layer, and its checks are computed side by side.

    Args:
        llr: log p(1)/p(0), float32 [words, blocks * z].
        row_start: First edge of each row, then the number of edges, int32 [rows + 1].
        column: Block of each edge, int32 [edges].
        shift: Shift of each edge, int32 [edges].
        z: Lifting size.
        iterations: Most sweeps over all rows.

    Returns:
        Whether all checks hold, bool [words], and sweeps spent, int32 [words].
    """
    rows = len(row_start) - 1
    degree = 0
    for r in range(rows):
        degree = max(degree, row_start[r + 1] - row_start[r])
    extrinsic = np.empty((len(column), z), np.float32)
    incoming = np.empty((degree, z), np.float32)
    least = np.empty(z, np.float32)
    second = np.empty(z, np.float32)
    sign = np.empty(z, np.float32)
    parity = np.empty(z, np.bool_)
    valid = np.zeros(len(llr), np.bool_)
    spent = np.zeros(len(llr), np.int32)
    scale = _NORMALISATION
    for w in range(len(llr)):
        word = llr[w]
        # Here a positive value stands for a 0, so that the sign of a check's message is a product of signs.
        for i in range(len(word)):
            word[i] = -word[i]
        extrinsic[:] = np.float32(0)
        while spent[w] < iterations and not valid[w]:
            spent[w] += 1
            for r in range(rows):
                first, last = row_start[r], row_start[r + 1]
                least[:] = np.float32(1e9)
                second[:] = np.float32(1e9)
                sign[:] = scale
                for e in range(first, last):
                    bits, message, out = word[column[e] * z : (column[e] + 1) * z], extrinsic[e], incoming[e - first]
                    wrap = z - shift[e]
                    for i in range(wrap):
                        out[i] = bits[i + shift[e]] - message[i]
                    for i in range(wrap, z):
                        out[i] = bits[i - wrap] - message[i]
                    for i in range(z):
                        value = abs(out[i])
                        second[i] = min(second[i], max(least[i], value))
                        least[i] = min(least[i], value)
                        sign[i] = -sign[i] if out[i] < np.float32(0) else sign[i]
                for e in range(first, last):
                    bits, message, out = word[column[e] * z : (column[e] + 1) * z], extrinsic[e], incoming[e - first]
                    for i in range(z):
                        value = second[i] if abs(out[i]) == least[i] else least[i]
                        signed = -sign[i] if out[i] < np.float32(0) else sign[i]
                        message[i] = value * signed
                    wrap = z - shift[e]
                    for i in range(wrap):
                        bits[i + shift[e]] = out[i] + message[i]
                    for i in range(wrap, z):
                        bits[i - wrap] = out[i] + message[i]
            valid[w] = True
            for r in range(rows):
                parity[:] = False
                for e in range(row_start[r], row_start[r + 1]):
                    bits = word[column[e] * z : (column[e] + 1) * z]
                    wrap = z - shift[e]
                    for i in range(wrap):
                        parity[i] ^= bits[i + shift[e]] < np.float32(0)
                    for i in range(wrap, z):
                        parity[i] ^= bits[i - wrap] < np.float32(0)
                if parity.any():
                    valid[w] = False
                    break
        for i in range(len(word)):
            word[i] = -word[i]
    return valid, spent
