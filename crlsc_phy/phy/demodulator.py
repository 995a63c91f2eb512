"""Demodulation: the samples of a burst to equalised symbols, with the noise on each.

    training -> standing channel -> phase and timing drift by pilots -> channel anew from all known values
                                                     `-> if it changes: channel over time, by fading.py

The known values are the training, the pilots and, once it is read, the header.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.phy.estimation import ChannelEstimate, ChannelEstimator
from crlsc_phy.phy.fading import Observations, changes, estimate_fading, project
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.preamble import Preamble
from crlsc_phy.phy.tracking import steady_drift, track

__all__ = ["Demodulator", "Reception"]

# Standard deviations that the tracker starts from: the CFO left by the preamble in cycles/sample, and the clock error.
_CFO_LEFT = 2e-4
_CLOCK_ERROR = 50e-6
# Drift in samples beyond which the FFT windows are moved along.
_DRIFT_LIMIT = 0.75
# Ratio of the noise over a standing channel to that between the training symbols, beyond which the channel changes:
# five standard deviations above one.
_NOISE_LIMIT = 1.7
# Symbols that drift by less than a quarter of the prefix at the largest clock error.
_STEADY_SYMBOLS = 1024


@dataclass(frozen=True)
class Reception:
    """Symbols of a burst with the drift taken out, and the channel estimated for them.

    Attributes:
        values: Received carriers, complex64 [symbols, occupied].
        channel: Channel, complex64 [symbols, occupied], or [1, occupied] if it stood still.
        noise: Variance of the complex noise on a carrier.
        channel_error: Variance of the error of ``channel``, float32 of its first axis.
        phase: Phase taken out of each symbol [rad], float64 [symbols].
        phase_variance: Variance of its error [rad^2], float64 [symbols].
        slope: Phase slope taken out of each symbol [rad/carrier], float64 [symbols].
        cfo: Carrier frequency offset in cycles/sample, the tracked part included.
        ofdm: Carriers and pilots of the numerology.
    """

    values: NDArray[np.complex64]
    channel: NDArray[np.complex64]
    noise: float
    channel_error: NDArray[np.float32]
    phase: NDArray[np.float64]
    phase_variance: NDArray[np.float64]
    slope: NDArray[np.float64]
    cfo: float
    ofdm: Ofdm

    @property
    def snr(self) -> float:
        """Ratio of the mean power of an occupied carrier to that of the noise on it."""
        return float(np.mean(np.abs(self.channel) ** 2)) / self.noise

    def equalised(self, first: int = 0, count: int | None = None) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return the data of some symbols, without a decision, and the variance of the noise on each.

        Args:
            first: First symbol.
            count: Symbols; all that follow if None.

        Returns:
            complex64 and float32, both [count, data_carriers].
        """
        count = len(self.values) - first if count is None else count
        columns = self.ofdm.data_columns(first, count)
        rows = np.arange(first, first + count)[:, None]
        row = np.zeros_like(rows) if len(self.channel) == 1 else rows
        channel = self.channel[row, columns]
        power = np.maximum(np.abs(channel) ** 2, np.float32(1e-9 * self.noise))
        symbols = self.values[rows, columns] * (channel.conj() / power)
        noise = (np.float32(self.noise) + self.channel_error[row]) / power
        noise += self.phase_variance[rows].astype(np.float32)
        return symbols.astype(np.complex64), noise.astype(np.float32)


class Demodulator:
    """Demodulator of the bursts of one numerology.

    Args:
        ofdm: Carriers and pilots.
        preamble: Preamble, with the training symbols.
    """

    def __init__(self, ofdm: Ofdm, preamble: Preamble) -> None:
        self._ofdm = ofdm
        self._preamble = preamble
        self._estimator = ChannelEstimator(ofdm)
        length, numerology = len(preamble.waveform), ofdm.numerology
        self._first = length + numerology.cp_length - ofdm.backoff
        middle = float(np.mean(preamble.training_starts)) - ofdm.backoff
        self._training_time = (middle - self._first) / numerology.symbol_length

    def samples_needed(self, symbols: int) -> int:
        """Return the samples from a burst's start to the end of ``symbols`` OFDM symbols, drift allowed for."""
        numerology = self._ofdm.numerology
        length = len(self._preamble.waveform) + symbols * numerology.symbol_length
        return length + numerology.cp_length + int(2 * _CLOCK_ERROR * length)

    def receive(
        self,
        samples: NDArray[np.complex64],
        cfo: float,
        symbols: int,
        known: NDArray[np.complex64],
    ) -> Reception:
        """Demodulate the first ``symbols`` OFDM symbols of a burst that starts at sample 0.

        Args:
            samples: Samples from the burst's start on, complex64, at least :meth:`samples_needed`.
            cfo: Carrier frequency offset in cycles/sample.
            symbols: OFDM symbols behind the preamble.
            known: Data of the first symbols as far as they are known, complex64 [n, data_carriers]; expectations of
                smaller magnitude where they are known in part.
        """
        numerology = self._ofdm.numerology
        expected = self._expected(symbols, known)
        training, noise = self._train(samples, cfo)
        raw = training.mean(axis=0)
        start = self._estimator.smooth(raw, np.full(len(raw), noise / len(training)))
        values, phase, slope, variance = self._follow(samples, cfo, expected, start.channel, noise)
        estimate, still_noise, error = self._standing(training, values, expected, noise)
        modes = self._modes(estimate, symbols, still_noise)
        gram, left = project(modes, expected, values - estimate.channel * expected)
        if still_noise > _NOISE_LIMIT * noise or changes(left, gram, still_noise):
            still = np.exp(1j * phase)[:, None] * self._estimator.beyond(modes, estimate)
            return self._fading(samples, training, expected, modes, still.astype(np.complex64), noise, cfo)
        index = np.arange(symbols) - (symbols - 1) / 2
        cfo += float(index @ phase) / max(float(index @ index), 1.0) / (2 * np.pi * numerology.symbol_length)
        errors = np.array([error], np.float32)
        return Reception(
            values, estimate.channel[None], still_noise, errors, phase, variance, slope, cfo, ofdm=self._ofdm
        )

    def _train(self, samples: NDArray[np.complex64], cfo: float) -> tuple[NDArray[np.complex64], float]:
        """Return the training symbols over their known values, complex64 [2, occupied], and the noise between them."""
        starts = self._preamble.training_starts - self._ofdm.backoff
        training = self._ofdm.analyse(samples, starts, cfo) * self._preamble.training.conj()
        repeats = len(training)
        raw = training.mean(axis=0)
        noise = float(np.mean(np.abs(training - raw) ** 2)) * repeats / (repeats - 1)
        return training, max(noise, 1e-9 * float(np.mean(np.abs(raw) ** 2)), 1e-30)

    def _expected(self, symbols: int, data: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Return the value sent on each carrier, complex64 [symbols, occupied]; zero where it is not known."""
        ofdm = self._ofdm
        expected = np.zeros((symbols, len(ofdm.carriers)), np.complex64)
        np.put_along_axis(expected, ofdm.pilot_columns(0, symbols), ofdm.pilots(0, symbols), axis=1)
        expected[: len(data)] = ofdm.grid(data)
        return expected

    def _follow(
        self,
        samples: NDArray[np.complex64],
        cfo: float,
        expected: NDArray[np.complex64],
        channel: NDArray[np.complex64],
        noise: float,
    ) -> tuple[NDArray[np.complex64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the symbols with the drift of timing taken out, phase, slope and the variance of the phase."""
        symbols = len(expected)
        moved = np.zeros(symbols)
        if symbols > _STEADY_SYMBOLS:
            moved = self._steady_drift(samples, cfo, symbols) * np.arange(symbols)
        values = self._values(samples, cfo, moved)
        phase, slope, variance = self._track(values, channel * expected, noise)
        drift = -slope * self._ofdm.numerology.fft_size / (2 * np.pi)
        if np.max(np.abs(drift - moved)) > _DRIFT_LIMIT:
            values = self._values(samples, cfo, drift)
            phase, slope, variance = self._track(values, channel * expected, noise)
        values *= np.exp(-1j * (phase[:, None] + slope[:, None] * self._ofdm.carriers)).astype(np.complex64)
        return values, phase, slope, variance

    def _values(self, samples: NDArray[np.complex64], cfo: float, drift: NDArray[np.float64]) -> NDArray[np.complex64]:
        """Return the carriers of symbols, whose FFT windows follow a drift; their phases do not.

        Args:
            samples: Samples of the burst, complex64.
            cfo: Carrier frequency offset in cycles/sample.
            drift: Drift of each symbol in samples, rounded here, float64 [symbols].
        """
        ofdm, numerology = self._ofdm, self._ofdm.numerology
        starts = self._first + numerology.symbol_length * np.arange(len(drift))
        most = numerology.cp_length + 2 * _CLOCK_ERROR * starts
        shift = np.clip(np.rint(drift), -most, most)
        values = ofdm.analyse(samples, starts + shift.astype(np.int64), cfo)
        if shift.any():
            values *= np.exp(-2j * np.pi / numerology.fft_size * np.outer(shift, ofdm.carriers)).astype(np.complex64)
        return values

    def _track(
        self, values: NDArray[np.complex64], expected: NDArray[np.complex64], noise: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        numerology = self._ofdm.numerology
        frequency = 2 * np.pi * _CFO_LEFT * numerology.symbol_length
        drift = 2 * np.pi * _CLOCK_ERROR * numerology.symbol_length / numerology.fft_size
        gain = np.asarray(np.abs(expected) ** 2, np.float32)
        return track(values * expected.conj(), gain, self._ofdm.carriers, noise, (frequency, drift))

    def _standing(
        self,
        training: NDArray[np.complex64],
        values: NDArray[np.complex64],
        expected: NDArray[np.complex64],
        noise: float,
    ) -> tuple[ChannelEstimate, float, float]:
        """Estimate a standing channel; return it, the variance of the noise and that of the channel's error."""
        seen = len(training) + np.sum(np.abs(expected) ** 2, axis=0)
        raw = (training.sum(axis=0) + np.sum(values * expected.conj(), axis=0)) / seen
        estimate = self._estimator.smooth(raw, noise / seen)
        left = np.sum(np.abs(training - estimate.channel) ** 2)
        left += np.sum(np.abs((values - estimate.channel * expected)[expected != 0]) ** 2)
        count = training.size + np.count_nonzero(expected)
        # The estimate has followed a part of the noise.
        noise = float(left) / max(count - estimate.freedom, 1.0)
        noise = max(noise, 1e-9 * float(np.mean(np.abs(raw) ** 2)), 1e-30)
        return estimate, noise, estimate.freedom * noise / float(seen.sum())

    def _drifting(
        self, samples: NDArray[np.complex64], cfo: float, symbols: int, drift: float
    ) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
        """Take out a steady drift [samples/symbol]; return the symbols and the slope of each [rad/carrier] before."""
        moved = drift * np.arange(symbols)
        slope = -2 * np.pi / self._ofdm.numerology.fft_size * moved
        values = self._values(samples, cfo, moved)
        values *= np.exp(-1j * np.outer(slope, self._ofdm.carriers)).astype(np.complex64)
        return values, slope

    def _steady_drift(self, samples: NDArray[np.complex64], cfo: float, symbols: int) -> float:
        """Return the drift of timing [samples/symbol] over a channel that fades."""
        ofdm, numerology = self._ofdm, self._ofdm.numerology
        drift = 0.0
        for count in sorted({min(symbols, _STEADY_SYMBOLS), symbols}):
            values, _ = self._drifting(samples, cfo, count, drift)
            pilots = np.take_along_axis(values, ofdm.pilot_columns(0, count), axis=1) * ofdm.pilots(0, count)
            most = _CLOCK_ERROR * numerology.symbol_length
            drift += steady_drift(pilots, numerology.pilot_spacing, numerology.fft_size, most)
        return drift

    def _modes(self, estimate: ChannelEstimate, symbols: int, noise: float) -> NDArray[np.complex128]:
        """Return the shapes that the channel may take, complex128 [occupied, modes]."""
        numerology = self._ofdm.numerology
        seen_a_carrier = max(symbols / numerology.pilot_spacing, 1.0)
        return self._estimator.modes(_widened(estimate.prior), noise / seen_a_carrier)

    def _fading(
        self,
        samples: NDArray[np.complex64],
        training: NDArray[np.complex64],
        expected: NDArray[np.complex64],
        modes: NDArray[np.complex128],
        still: NDArray[np.complex64],
        noise: float,
        cfo: float,
    ) -> Reception:
        """Return the reception over a channel that changes; its phase is part of it.

        ``still`` is the part of it that the modes leave out, complex64 [symbols, occupied].
        """
        numerology, symbols = self._ofdm.numerology, len(expected)
        values, slope = self._drifting(samples, cfo, symbols, self._steady_drift(samples, cfo, symbols))
        known = expected != 0
        energies = np.sum(np.abs(modes) ** 2, axis=0)
        training = training - still[0]
        varying = values - still * expected
        gram, matched = project(modes, expected, varying)
        observations = Observations(
            np.r_[self._training_time, np.arange(symbols)],
            np.concatenate(((modes.conj().T @ training.sum(axis=0))[None], matched)),
            np.concatenate((len(training) * np.diag(energies)[None], gram)),
            float(np.sum(np.abs(training) ** 2) + np.sum(np.abs(varying[known]) ** 2)),
            training.size + np.count_nonzero(known),
        )
        fading = estimate_fading(observations, energies, noise, len(modes))
        channel = (fading.modes[1:] @ modes.T).astype(np.complex64) + still
        noise = max(fading.noise, 1e-9 * float(np.mean(np.abs(channel) ** 2)))
        cfo += fading.frequency / (2 * np.pi * numerology.symbol_length)
        nothing = np.zeros(symbols)
        error = fading.error[1:].astype(np.float32)
        return Reception(values, channel, noise, error, nothing, nothing, slope, cfo, ofdm=self._ofdm)


def _widened(prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Widen a delay profile, for paths that were faded while it was learned."""
    padded = np.pad(prior, 1)
    return np.maximum(np.maximum(padded[:-2], padded[2:]), prior) + 0.03 * float(np.mean(prior))
