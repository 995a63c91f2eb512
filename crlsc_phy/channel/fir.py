"""FIR filter whose taps move along straight lines from knot to knot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.machine import compiled

__all__ = ["filter_moving"]


@compiled(nogil=True)
def filter_moving(
    real: NDArray[np.float32],
    imag: NDArray[np.float32],
    knots: NDArray[np.complex64],
    hop: int,
    first: int,
    steps: bool,
    out_real: NDArray[np.float32],
    out_imag: NDArray[np.float32],
) -> None:
    """Filter samples into ``out_real`` and ``out_imag``; the result does not depend on how the stream is cut.

    Args:
        real: Real part of the input, float32 [tx, L - 1 + n]; the first L - 1 samples are history.
        imag: Imaginary part of the input, likewise.
        knots: Taps at sample 0, ``hop``, 2 ``hop``, ..., complex64 [knots, rx, tx, L].
        hop: Samples from one knot to the next.
        first: Samples from the first knot to the first new sample; ``first + n`` is at most at the last knot.
        steps: Whether the taps stand still between knots and then jump.
        out_real: Real part of the output, float32 [rx, n], zero.
        out_imag: Imaginary part of the output, likewise.
    """
    _, receivers, senders, taps = knots.shape
    count = out_real.shape[1]
    done = 0
    while done < count:
        interval, offset = (first + done) // hop, (first + done) % hop
        length = min(hop - offset, count - done)
        for r in range(receivers):
            yr, yi = out_real[r, done : done + length], out_imag[r, done : done + length]
            for s in range(senders):
                for lag in range(taps):
                    start, end = knots[interval, r, s, lag], knots[interval + 1, r, s, lag]
                    scale = np.float32(0) if steps else np.float32(1) / np.float32(hop)
                    slope_real = (end.real - start.real) * scale
                    slope_imag = (end.imag - start.imag) * scale
                    at = taps - 1 + done - lag
                    xr, xi = real[s, at : at + length], imag[s, at : at + length]
                    for n in range(length):
                        place = np.float32(offset + n)
                        hr = start.real + place * slope_real
                        hi = start.imag + place * slope_imag
                        yr[n] += hr * xr[n] - hi * xi[n]
                        yi[n] += hr * xi[n] + hi * xr[n]
        done += length
