"""Peak-to-average power ratio (PAPR) of OFDM signals, and its reduction by clipping and filtering.

A power amplifier distorts what exceeds its linear range, so a signal with lower peaks can be sent with more power.
Clipping adds an error to the carriers in use; filtering keeps that error out of the neighbouring bands.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from crlsc_phy.errors import ModemError
from crlsc_phy.scalars import plain

__all__ = ["LOWEST_PAPR_DB", "OVERSAMPLING", "ccdf", "check_papr", "clip_and_filter", "oversample", "papr_db"]

OVERSAMPLING = 4
"""At four times the sample rate the peaks of the samples are within 0.1 dB of those of the continuous signal."""

LOWEST_PAPR_DB = 3.0
"""Here the error is 14.5 dB below the symbols. One dB less would add 2.4 dB to it, and take 0.6 dB off the peaks."""


def clip_and_filter(
    values: NDArray[np.complex64], carriers: NDArray[np.int64], fft_size: int, papr_db: float, passes: int = 4
) -> NDArray[np.complex64]:
    """Lower the peaks of OFDM symbols by repeated clipping and frequency-domain filtering.

    Each pass clips at 4 times the sample rate, where the peaks between samples are visible, and removes what falls
    outside the occupied carriers. Filtering lets the peaks grow back in part, which the next pass corrects (J.
    Armstrong, "Peak-to-average power reduction for OFDM by repeated clipping and frequency domain filtering",
    Electronics Letters, vol. 38, no. 5, 2002). The cyclic prefix repeats samples of its symbol and adds no peak.
    Receivers need not know.

    Args:
        values: Carriers of whole symbols, pilots included, complex64 [symbols, occupied].
        carriers: Signed index of each column, int64 [occupied].
        fft_size: Size of the FFT.
        papr_db: Clipping level over the mean power of all symbols, in dB. Peaks that grow back exceed it: 1 sample in
            1000 by 1 dB at a level of 4 dB, by 0.5 dB at 6 dB.
        passes: Number of times to clip and filter.

    Returns:
        complex64 [symbols, occupied] with the mean power of ``values``.

    Raises:
        ModemError: If :func:`check_papr` refuses ``papr_db``, or ``passes`` is below 1.
    """
    check_papr(papr_db)
    if passes < 1:
        raise ModemError(f"passes is {passes}; clipping takes at least 1")
    values = np.asarray(values, np.complex64)
    power = _mean_power(values)
    if power == 0:
        return values.copy()
    columns = np.asarray(carriers) % (OVERSAMPLING * fft_size)
    spectrum = np.zeros((len(values), OVERSAMPLING * fft_size), np.complex64)
    clipped = values
    for _ in range(passes):
        spectrum[:, columns] = clipped
        # Unitary, so that the samples have the energy of the carriers.
        samples = fft.ifft(spectrum, axis=1, norm="ortho")
        level = np.float32(math.sqrt(10 ** (papr_db / 10) * _mean_power(samples)))
        samples *= np.minimum(1, level / np.maximum(np.abs(samples), level))
        clipped = fft.fft(samples, axis=1, norm="ortho")[:, columns]
        clipped *= np.float32(math.sqrt(power / _mean_power(clipped)))
    return np.asarray(clipped, np.complex64)


def check_papr(papr_db: float) -> float:
    """Return ``papr_db`` as a Python number if peaks can be clipped at this level.

    Raises:
        ModemError: If it is not a finite number, or is below :data:`LOWEST_PAPR_DB`.
    """
    level = plain(papr_db)
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not LOWEST_PAPR_DB <= level < math.inf:
        raise ModemError(f"papr_db is {level!r}; it must be a number of dB, {LOWEST_PAPR_DB:g} or higher")
    return level


def oversample(samples: NDArray[np.complex64], factor: int = OVERSAMPLING) -> NDArray[np.complex64]:
    """Interpolate a periodic signal by padding its spectrum with zeros.

    Args:
        samples: One period, complex64 [n].
        factor: New samples per old sample.

    Returns:
        complex64 [factor * n]; every ``factor``-th sample is one of ``samples``.
    """
    samples = np.asarray(samples, np.complex64)
    count = len(samples)
    half = (count + 1) // 2
    source = fft.fft(samples)
    spectrum = np.zeros(factor * count, np.complex64)
    spectrum[:half] = source[:half]
    spectrum[len(spectrum) - (count - half) :] = source[half:]
    if count % 2 == 0 and count and factor > 1:
        # The bin at half the sample rate stands for the positive and the negative frequency.
        spectrum[half] = spectrum[-half] = source[half] / 2
    return np.asarray(fft.ifft(spectrum) * np.float32(factor), np.complex64)


def papr_db(samples: NDArray[np.complex64]) -> float:
    """Return the peak power over the mean power of ``samples``, complex64 [n], in dB.

    Peaks between the samples are not seen; call :func:`oversample` first.

    Raises:
        ModemError: If there is no sample, or all are zero.
    """
    power = _powers(samples)
    return float(10 * np.log10(power.max() / power.mean()))


def ccdf(samples: NDArray[np.complex64], levels_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the complementary cumulative distribution of the instantaneous power.

    Args:
        samples: complex64 [n]. Peaks between the samples are not seen; call :func:`oversample` first.
        levels_db: Power over the mean power in dB, float64 [m].

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
        raise ModemError("samples have no power, so their PAPR is undefined; give at least one that is not zero")
    return power


def _mean_power(values: NDArray[np.complex64]) -> float:
    return float(np.vdot(values, values).real) / max(values.size, 1)
