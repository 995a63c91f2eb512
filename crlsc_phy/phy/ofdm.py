"""OFDM symbols: carriers to samples and back, with a comb of pilots in every symbol.

The comb moves from symbol to symbol, so that within ``pilot_spacing`` symbols every carrier is measured. A fixed comb
could not tell paths apart whose delays differ by fft_size / pilot_spacing samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from crlsc_phy.phy.numerology import Numerology
from crlsc_phy.phy.sequences import gold, spread

__all__ = ["Ofdm"]

_PILOT_SEED = 0x5EED


class Ofdm:
    """Modulator and demodulator of the OFDM symbols of one numerology.

    Args:
        numerology: Carriers, pilots and cyclic prefix.

    Attributes:
        carriers: Signed indices of the occupied carriers in rising order, int64 [occupied].
        backoff: Samples that the receiver's FFT window lies inside the cyclic prefix: room for timing errors and
            for the side lobes of paths between samples.
    """

    def __init__(self, numerology: Numerology) -> None:
        self.numerology = numerology
        half = numerology.occupied // 2
        self.carriers = np.r_[-half:0, 1 : half + 1]
        spacing = numerology.pilot_spacing
        pilots = spread(spacing)[:, None] + spacing * np.arange(numerology.pilots)
        data = [np.setdiff1d(np.arange(numerology.occupied), row) for row in pilots]
        self._pilot_pattern, self._data_pattern = pilots, np.stack(data)
        self.backoff = numerology.cp_length // 4

    def pilot_columns(self, first: int, count: int) -> NDArray[np.int64]:
        """Return the indices into ``carriers`` of the pilots of symbols from ``first`` on, int64 [count, pilots]."""
        return _rows(self._pilot_pattern, first, count)

    def data_columns(self, first: int, count: int) -> NDArray[np.int64]:
        """Return the indices into ``carriers`` of the data of these symbols, int64 [count, data_carriers]."""
        return _rows(self._data_pattern, first, count)

    def pilots(self, first: int, count: int) -> NDArray[np.complex64]:
        """Return the pilots of ``count`` symbols of a burst from ``first`` on, +-1, complex64 [count, pilots]."""
        per_symbol = self.numerology.pilots
        # Lengths are powers of two, so that bursts of all lengths share a few cached sequences.
        length = max(1024, 1 << ((first + count) * per_symbol - 1).bit_length())
        bits = gold(length, _PILOT_SEED)[first * per_symbol : (first + count) * per_symbol]
        return (1 - 2 * bits.astype(np.complex64)).reshape(count, per_symbol)

    def grid(self, data: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Add the pilots to the data [n, data_carriers] of a burst's first symbols; complex64 [n, occupied]."""
        count = len(data)
        values = np.empty((count, len(self.carriers)), np.complex64)
        np.put_along_axis(values, self.data_columns(0, count), data, axis=1)
        np.put_along_axis(values, self.pilot_columns(0, count), self.pilots(0, count), axis=1)
        return values

    def waveform(self, values: NDArray[np.complex64], prefix: int) -> NDArray[np.complex64]:
        """Modulate symbols: carriers of unit mean power give samples of unit mean power.

        Args:
            values: Carriers, complex64 [n, occupied].
            prefix: Cyclic prefix in samples.

        Returns:
            complex64 [n, prefix + fft_size].
        """
        size = self.numerology.fft_size
        spectrum = np.zeros((len(values), size), np.complex64)
        spectrum[:, self.carriers % size] = values
        samples = fft.ifft(spectrum, axis=1, norm="ortho") * np.float32(np.sqrt(size / len(self.carriers)))
        return np.asarray(np.concatenate((samples[:, size - prefix :], samples), axis=1), np.complex64)

    def analyse(self, samples: NDArray[np.complex64], starts: NDArray[np.int64], cfo: float) -> NDArray[np.complex64]:
        """Return the carriers of FFT windows.

        Args:
            samples: Received samples, complex64 [n].
            starts: First sample of each window, int64 [windows].
            cfo: Carrier frequency offset to take out, in cycles/sample; its phase is zero at sample 0.

        Returns:
            complex64 [windows, occupied]; noise of variance v per sample has variance v per carrier.
        """
        size = self.numerology.fft_size
        turn = np.exp(-2j * np.pi * cfo * np.arange(size)).astype(np.complex64)
        start_phase = np.exp(-2j * np.pi * ((cfo * starts) % 1.0)).astype(np.complex64)
        windows = np.lib.stride_tricks.sliding_window_view(samples, size)[starts]
        spectrum = fft.fft(windows * turn, axis=1, norm="ortho")[:, self.carriers % size]
        return np.asarray(spectrum * start_phase[:, None], np.complex64)


def _rows(pattern: NDArray[np.int64], first: int, count: int) -> NDArray[np.int64]:
    """Return ``count`` rows of a pattern that repeats, from row ``first`` on."""
    rows: NDArray[np.int64] = pattern[np.arange(first, first + count) % len(pattern)]
    return rows
