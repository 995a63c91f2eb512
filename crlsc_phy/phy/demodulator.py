"""From the samples of a burst to equalised symbols with the noise on each.

The channel is first estimated from the training symbols. Once the header is read its symbols are known, and the
estimate is made anew from training and header together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.phy.estimation import ChannelEstimator, track
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.preamble import Preamble

__all__ = ["Demodulator", "Reception"]

# What the tracker expects at first: the CFO left over by the preamble in cycles/sample, and a clock error.
_CFO_LEFT = 4e-4
_CLOCK_ERROR = 50e-6
# Beyond this many samples of drift the FFT windows are moved along.
_DRIFT_LIMIT = 0.75


@dataclass
class Reception:
    """A burst's symbols, freed of phase and drift, and what the channel did to them.

    Attributes:
        values: complex64 [symbols, occupied].
        channel: complex64 [occupied].
        noise: Variance of the complex noise on a carrier.
        phase_variance: Variance of the phase correction of each symbol [rad^2], float64 [symbols].
        training: Sum of the training symbols over their known values, complex64 [occupied].
        cfo: Carrier frequency offset in cycles/sample, the tracked part included.
    """

    values: NDArray[np.complex64]
    channel: NDArray[np.complex64]
    noise: float
    phase_variance: NDArray[np.float64]
    training: NDArray[np.complex64]
    cfo: float

    @property
    def snr(self) -> float:
        """Mean power of an occupied carrier over that of the noise on it."""
        return float(np.mean(np.abs(self.channel) ** 2)) / self.noise


class Demodulator:
    """Demodulates the bursts of one numerology.

    Args:
        ofdm: Carriers and pilots.
        preamble: Its training symbols.
    """

    def __init__(self, ofdm: Ofdm, preamble: Preamble) -> None:
        self._ofdm = ofdm
        self._preamble = preamble
        self._estimator = ChannelEstimator(ofdm)

    def samples_needed(self, symbols: int) -> int:
        """Samples from a burst's start to the end of its OFDM symbol ``symbols``, drift allowed for."""
        numerology = self._ofdm.numerology
        length = len(self._preamble.waveform) + symbols * numerology.symbol_length
        return length + numerology.cp_length + int(2 * _CLOCK_ERROR * length)

    def receive(self, samples: NDArray[np.complex64], cfo: float, symbols: int) -> Reception:
        """Demodulate the first ``symbols`` OFDM symbols of a burst that starts at sample 0.

        Args:
            samples: complex64, at least :meth:`samples_needed`.
            cfo: In cycles/sample.
            symbols: OFDM symbols behind the preamble.
        """
        ofdm, numerology = self._ofdm, self._ofdm.numerology
        training = ofdm.analyse(samples, self._preamble.training_starts - ofdm.backoff, cfo)
        training = training * self._preamble.training.conj()
        repeats = len(training)
        raw = training.mean(axis=0)
        noise = float(np.mean(np.abs(training - raw) ** 2)) * repeats / (repeats - 1)
        noise = max(noise, 1e-9 * float(np.mean(np.abs(raw) ** 2)), 1e-30)
        channel, _ = self._estimator.smooth(raw, noise / repeats)
        starts = (
            len(self._preamble.waveform)
            + numerology.cp_length
            - ofdm.backoff
            + numerology.symbol_length * np.arange(symbols)
        )
        values = ofdm.analyse(samples, starts, cfo)
        phase, slope, variance = self._track(values, channel, noise)
        drift = -slope * numerology.fft_size / (2 * np.pi)
        if np.max(np.abs(drift)) > _DRIFT_LIMIT:
            shift = np.clip(np.rint(drift), -numerology.cp_length, numerology.cp_length + 2 * _CLOCK_ERROR * starts)
            shift = shift.astype(np.int64)
            values = ofdm.analyse(samples, starts + shift, cfo)
            values *= np.exp(-2j * np.pi / numerology.fft_size * np.outer(shift, ofdm.carriers))
            phase, slope, variance = self._track(values, channel, noise)
        values *= np.exp(-1j * (phase[:, None] + slope[:, None] * ofdm.carriers)).astype(np.complex64)
        pilots = ofdm.pilots(0, symbols)
        error = values[:, ofdm.pilot_columns] - channel[ofdm.pilot_columns] * pilots
        # Training and pilots weigh by how many values each has; the pilots' error includes the channel estimate's.
        total = float(np.sum(np.abs(error) ** 2)) + noise * raw.size * (repeats - 1)
        noise = total / (error.size + raw.size * (repeats - 1))
        index = np.arange(symbols) - (symbols - 1) / 2
        cfo += float(index @ phase / (index @ index)) / (2 * np.pi * numerology.symbol_length)
        return Reception(values, channel, max(noise, 1e-30), variance, training.sum(axis=0), cfo)

    def refine(self, reception: Reception, known: NDArray[np.complex64]) -> None:
        """Estimate channel and noise anew from the training and from symbols that are known by now.

        Args:
            reception: Changed in place.
            known: The first symbols of the burst without pilots, complex64 [symbols, data_carriers].
        """
        ofdm = self._ofdm
        expected = np.empty((len(known), len(ofdm.carriers)), np.complex64)
        expected[:, ofdm.data_columns] = known
        expected[:, ofdm.pilot_columns] = ofdm.pilots(0, len(known))
        values = reception.values[: len(known)]
        repeats = len(known) + len(self._preamble.training_starts)
        raw = (reception.training + np.sum(values * expected.conj(), axis=0)) / repeats
        reception.channel, freedom = self._estimator.smooth(raw, reception.noise / repeats)
        noise = float(np.mean(np.abs(values - reception.channel * expected) ** 2))
        # The estimate has followed some of the noise that it is now compared with.
        noise /= 1 - freedom / (raw.size * repeats)
        reception.noise = max(noise, 1e-9 * float(np.mean(np.abs(raw) ** 2)), 1e-30)

    def equalise(
        self, reception: Reception, first: int, count: int
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Data of some symbols and the variance of the noise on each.

        Args:
            reception: From :meth:`receive`.
            first: First symbol.
            count: Symbols.

        Returns:
            complex64 and float32, both [count, data_carriers].
        """
        columns = self._ofdm.data_columns
        channel = reception.channel[columns]
        power = np.maximum(np.abs(channel) ** 2, 1e-9 * reception.noise)
        symbols = reception.values[first : first + count, columns] * (channel.conj() / power)
        phase_noise = reception.phase_variance[first : first + count].astype(np.float32)
        noise = np.float32(reception.noise) / power + phase_noise[:, None]
        return symbols.astype(np.complex64), noise.astype(np.float32)

    def _track(
        self, values: NDArray[np.complex64], channel: NDArray[np.complex64], noise: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        ofdm, numerology = self._ofdm, self._ofdm.numerology
        columns = ofdm.pilot_columns
        rotation = values[:, columns] * (channel[columns] * ofdm.pilots(0, len(values))).conj()
        frequency = 2 * np.pi * _CFO_LEFT * numerology.symbol_length
        drift = 2 * np.pi * _CLOCK_ERROR * numerology.symbol_length / numerology.fft_size
        return track(rotation, np.abs(channel[columns]) ** 2, ofdm.carriers[columns], noise, (frequency, drift))
