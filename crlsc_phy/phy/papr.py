"""The peaks of a burst: how high they are, and how to take them off at the sender.

A power amplifier distorts whatever exceeds its linear range, so that a signal with lower peaks can be sent with more
power. Clipping buys that with noise of its own on the carriers; filtering keeps it out of the bands next door.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from crlsc_phy.errors import ModemError

__all__ = ["LOWEST_PAPR_DB", "OVERSAMPLING", "ccdf", "check_papr", "clip_and_filter", "oversample", "papr_db"]

OVERSAMPLING = 4
"""At four times the sample rate the peaks of samples are within 0.1 dB of those of the continuous signal."""

LOWEST_PAPR_DB = 3.0
"""The error is 14.5 dB below the symbols there; each dB further down adds 2.4 dB to it and takes 0.6 dB off a peak."""


def clip_and_filter(
    values: NDArray[np.complex64], carriers: NDArray[np.int64], fft_size: int, papr_db: float, passes: int = 4
) -> NDArray[np.complex64]:
    """Lower the peaks of OFDM symbols by repeated clipping and frequency-domain filtering.

    The symbols are clipped at 4 times the sample rate, where peaks between samples are seen, and everything outside the
    occupied carriers is taken away again, which lets the peaks grow back in part: hence the passes (J. Armstrong,
    "Peak-to-average power reduction for OFDM by repeated clipping and frequency domain filtering", Electronics
    Letters, vol. 38, no. 5, 2002). A cyclic prefix repeats samples of its symbol and adds no peak. No receiver needs
    to know.

    Args:
        values: Carriers of whole symbols, pilots included, complex64 [symbols, occupied].
        carriers: Signed index of each column, int64 [occupied].
        fft_size: Carriers of the FFT.
        papr_db: Where to clip, over the mean power of all symbols. Peaks that grow back, and the seams between
            symbols, exceed it: 1 sample in 1000 at 4 dB by 1 dB, at 6 dB by 0.5 dB.
        passes: Times to clip and filter.

    Returns:
        complex64 [symbols, occupied] with the mean power of ``values``.

    Raises:
        ModemError: If :func:`check_papr` refuses ``papr_db``, or ``passes`` is below 1.
    """
    check_papr(papr_db)
    if passes < 1:
        raise ModemError(f"passes is {passes}; clipping takes at least 1")
    power = _mean_power(values)
    if power == 0:
        return values.copy()
    columns = carriers % (OVERSAMPLING * fft_size)
    spectrum = np.zeros((len(values), OVERSAMPLING * fft_size), np.complex64)
    clipped = values
    for _ in range(passes):
        spectrum[:, columns] = clipped
        # Unitary, so that a sample has the carriers' mean power times their part of the bins.
        samples = fft.ifft(spectrum, axis=1, norm="ortho")
        level = np.float32(math.sqrt(10 ** (papr_db / 10) * _mean_power(samples)))
        samples *= np.minimum(1, level / np.maximum(np.abs(samples), level))
        clipped = fft.fft(samples, axis=1, norm="ortho")[:, columns]
        clipped *= np.float32(math.sqrt(power / _mean_power(clipped)))
    return np.asarray(clipped, np.complex64)


def check_papr(papr_db: float) -> float:
    """``papr_db`` itself if peaks can be clipped there.

    Raises:
        ModemError: If it is not finite, or below :data:`LOWEST_PAPR_DB`.
    """
    if not (math.isfinite(papr_db) and papr_db >= LOWEST_PAPR_DB):
        raise ModemError(f"papr_db is {papr_db:g}; peaks can be clipped {LOWEST_PAPR_DB:g} dB over the mean or higher")
    return papr_db


def oversample(samples: NDArray[np.complex64], factor: int = OVERSAMPLING) -> NDArray[np.complex64]:
    """Interpolate a signal by zeros behind its spectrum; it is taken to be periodic.

    Args:
        samples: complex64 [n].
        factor: New samples for each old one.

    Returns:
        complex64 [factor * n]; every ``factor``-th sample is one of ``samples``.
    """
    count = len(samples)
    half = (count + 1) // 2
    source = fft.fft(np.asarray(samples, np.complex64))
    spectrum = np.zeros(factor * count, np.complex64)
    spectrum[:half] = source[:half]
    spectrum[len(spectrum) - (count - half) :] = source[half:]
    if count % 2 == 0 and count and factor > 1:
        # The bin at half the sample rate stands for both of its signs.
        spectrum[half] = spectrum[-half] = source[half] / 2
    return np.asarray(fft.ifft(spectrum) * np.float32(factor), np.complex64)


def papr_db(samples: NDArray[np.complex64]) -> float:
    """Peak power over mean power in dB of ``samples``, complex64 [n], as they are: :func:`oversample` them first.

    Raises:
        ModemError: If there is no sample, or all are zero.
    """
    power = _powers(samples)
    return float(10 * np.log10(power.max() / power.mean()))


def ccdf(samples: NDArray[np.complex64], levels_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Complementary distribution of the instantaneous power.

    Args:
        samples: complex64 [n], as they are: :func:`oversample` them first.
        levels_db: Power over the mean power, float64 [m].

    Returns:
        Probability that a sample exceeds each level, float64 [m].

    Raises:
        ModemError: If there is no sample, or all are zero.
    """
    power = np.sort(_powers(samples))
    levels = power.mean() * 10 ** (np.asarray(levels_db, np.float64) / 10)
    above = len(power) - np.searchsorted(power, levels, side="right")
    return np.asarray(above / len(power), np.float64)


def _powers(samples: NDArray[np.complex64]) -> NDArray[np.float64]:
    power: NDArray[np.float64] = np.square(np.abs(samples), dtype=np.float64)
    if not power.any():
        raise ModemError("samples have no power, so no peak-to-average ratio; give at least one that is not zero")
    return power


def _mean_power(values: NDArray[np.complex64]) -> float:
    return float(np.vdot(values, values).real) / max(values.size, 1)
