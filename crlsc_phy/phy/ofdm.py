"""OFDM symbols: carriers to samples and back, with a pilot comb in every symbol."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from crlsc_phy.phy.numerology import Numerology
from crlsc_phy.phy.sequences import gold

__all__ = ["Ofdm"]

_PILOT_SEED = 0x5EED


class Ofdm:
    """Modulates and demodulates the symbols of one numerology.

    Attributes:
        carriers: Signed indices of the occupied carriers in rising order, int64 [occupied].
        pilot_columns: Where the pilots are among ``carriers``, int64 [pilots].
        data_columns: Where the data are among ``carriers``, int64 [data_carriers].
        backoff: Samples that the receiver's FFT window lies inside the cyclic prefix: room for timing errors and
            for the side lobes of paths between samples.
    """

    def __init__(self, numerology: Numerology) -> None:
        self.numerology = numerology
        half = numerology.occupied // 2
        self.carriers = np.r_[-half:0, 1 : half + 1]
        is_pilot = np.isin(self.carriers, numerology.pilots)
        self.pilot_columns = np.flatnonzero(is_pilot)
        self.data_columns = np.flatnonzero(~is_pilot)
        self.backoff = numerology.cp_length // 4

    def pilots(self, first: int, count: int) -> NDArray[np.complex64]:
        """Pilots of ``count`` symbols from symbol ``first`` of a burst on, +-1, complex64 [count, pilots]."""
        per_symbol = len(self.pilot_columns)
        # Drawn in powers of two, so that bursts of all lengths share a few cached sequences.
        length = max(1024, 1 << ((first + count) * per_symbol - 1).bit_length())
        bits = gold(length, _PILOT_SEED)[first * per_symbol : (first + count) * per_symbol]
        return (1 - 2 * bits.astype(np.complex64)).reshape(count, per_symbol)

    def grid(self, data: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Data symbols [n, data_carriers] of a whole burst with their pilots, complex64 [n, occupied]."""
        values = np.empty((len(data), len(self.carriers)), np.complex64)
        values[:, self.data_columns] = data
        values[:, self.pilot_columns] = self.pilots(0, len(data))
        return values

    def waveform(self, values: NDArray[np.complex64], prefix: int) -> NDArray[np.complex64]:
        """Samples of symbols with unit mean power per sample for unit mean power per carrier.

        Args:
            values: complex64 [n, occupied].
            prefix: Samples of cyclic prefix.

        Returns:
            complex64 [n, prefix + fft_size].
        """
        size = self.numerology.fft_size
        spectrum = np.zeros((len(values), size), np.complex64)
        spectrum[:, self.carriers % size] = values
        samples = fft.ifft(spectrum, axis=1, norm="ortho") * np.float32(np.sqrt(size / len(self.carriers)))
        return np.asarray(np.concatenate((samples[:, size - prefix :], samples), axis=1), np.complex64)

    def analyse(self, samples: NDArray[np.complex64], starts: NDArray[np.int64], cfo: float) -> NDArray[np.complex64]:
        """Carrier values of FFT windows.

        Args:
            samples: complex64 [n].
            starts: First sample of each window, int64 [windows].
            cfo: Carrier frequency offset to take away in cycles/sample, its phase zero at sample 0.

        Returns:
            complex64 [windows, occupied]; noise of variance v per sample has variance v per carrier.
        """
        size = self.numerology.fft_size
        turn = np.exp(-2j * np.pi * cfo * np.arange(size)).astype(np.complex64)
        start_phase = np.exp(-2j * np.pi * ((cfo * starts) % 1.0)).astype(np.complex64)
        windows = np.lib.stride_tricks.sliding_window_view(samples, size)[starts]
        spectrum = fft.fft(windows * turn, axis=1, norm="ortho")[:, self.carriers % size]
        return np.asarray(spectrum * start_phase[:, None], np.complex64)
