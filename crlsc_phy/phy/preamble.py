"""The preamble: its waveform, the search for bursts, and the measurement of their timing and CFO.

    20 x period of 16 samples, signs by a cover | training symbol | - training symbol

The first part finds bursts and measures the CFO, whatever the FFT size; the training symbols give timing and
channel. Finding goes in steps. A cheap metric runs over every sample: the input is correlated with one period,
and the products of correlations a period apart are summed, their signs by the cover; a CFO only turns that sum. Where
the metric, divided by the energy, passes a loose threshold, and the first part adds up coherently, the input is
correlated with the whole preamble over a small grid of lags and frequencies and must pass a strict one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from crlsc_phy.machine import compiled
from crlsc_phy.phy.numerology import SYNC_LINES, SYNC_PERIOD
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.tracking import vertex

__all__ = ["Preamble", "Sync"]

# With equal periods and equal training symbols a burst would resemble itself some periods off, and noise would decide.
# These signs keep the power of the whole preamble's side lobes below 3 % of the peak: the best of all covers with seven
# changes of sign. More changes would make the metric rough.
_COVER = np.array([1, -1, 1, -1, 1, 1, -1, -1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1], np.float32)
_CHANGES = _COVER[1:] * _COVER[:-1]
_TRAINING = np.array([1, -1], np.float32)

# The metric is the part of the energy that is alike from period to period, 0.95 for a burst alone. Over noise it has a
# standard deviation of sqrt(19) / 320: one sample in 300 passes.
_LOOSE = 0.033
# The coherent sum of the correlations near a peak must exceed that of noise by this factor: a quick test that rejects
# most of what passes the loose one.
_MIDDLE = 14.0
# Threshold of quality * length. Of 1.7e8 samples of noise 3.5e-5 reach this test; of these 7.9 % exceed 14, 2.4 % 16,
# 0.66 % 18 and 0.085 % 20. A burst at -5 dB has 100, one at -9 dB 45. Extrapolated, the threshold gives some 3e-10
# false alarms a sample.
_STRICT = 26.0
# Two periods and more, since the loose metric may peak a period off.
_LAGS = np.arange(-36, 37)
_PATH_FLOOR_DB = -10.0
# Floor in units of the noise: among 64 places noise alone exceeds it once in 20,000 preambles.
_PATH_NOISE = 14.0


@dataclass(frozen=True, slots=True)
class Sync:
    """Position of a burst.

    Attributes:
        start: Index of the burst's first sample on the first significant path, in the buffer searched.
        cfo: Carrier frequency offset in cycles/sample.
        quality: Share of the preamble's energy in all energy there, 0 to 1.
    """

    start: int
    cfo: float
    quality: float


class Preamble:
    """Preamble of one numerology.

    Args:
        ofdm: Carriers of the numerology.

    Attributes:
        waveform: complex64 [length], unit mean power.
        training: Carriers of the two training symbols, complex64 [2, occupied].
        training_starts: First sample of the two training FFT windows, without backoff, int64 [2].
        threshold: Threshold of the metric.
        lookahead: Samples behind a burst's first one that :meth:`refine` may touch.
    """

    def __init__(self, ofdm: Ofdm) -> None:
        self._ofdm = ofdm
        numerology = ofdm.numerology
        lines = np.r_[-SYNC_LINES:0, 1 : SYNC_LINES + 1]
        spectrum = np.zeros(SYNC_PERIOD, np.complex128)
        # Chirps (Zadoff-Chu phases) keep both parts flat in time and frequency.
        spectrum[lines % SYNC_PERIOD] = np.exp(-1j * np.pi * lines**2 / (2 * SYNC_LINES + 1))
        period = fft.ifft(spectrum)
        self._period = (period / np.sqrt(np.mean(np.abs(period) ** 2))).astype(np.complex64)
        carriers = ofdm.carriers
        chirp = np.exp(-1j * np.pi * carriers**2 / len(carriers)).astype(np.complex64)
        self.training = np.outer(_TRAINING, chirp)
        training = ofdm.waveform(self.training, numerology.cp_length).ravel()
        sync_length = SYNC_PERIOD * len(_COVER)
        self.waveform = np.concatenate((np.outer(_COVER, self._period).ravel(), training))
        self._training_offset = sync_length
        self.training_starts = sync_length + numerology.cp_length + numerology.symbol_length * np.arange(len(_TRAINING))
        self.sync_length = sync_length
        self.threshold = _LOOSE
        self.lookahead = len(self.waveform) + 2 * int(_LAGS[-1]) + numerology.cp_length

    def metric(self, samples: NDArray[np.complex64]) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
        """Compute the cheap metric over a buffer.

        Args:
            samples: complex64 [n].

        Returns:
            The sum of products over the energy for a burst that starts at each sample, complex64
            [n - sync_length + 1], its magnitude 0 to 0.95, its phase 2 pi 16 times the CFO; and whether it is a
            peak that passes ``threshold`` and a quick coherent look, bool of the same shape.
        """
        if len(samples) < self.sync_length:
            return np.empty(0, np.complex64), np.empty(0, np.bool_)
        re, im = np.ascontiguousarray(samples.real), np.ascontiguousarray(samples.imag)
        total, above = _metric(re, im, self._period, _CHANGES, _LOOSE)
        _look(samples, total, above, self._period, _COVER, _MIDDLE)
        return total, above

    def refine(self, samples: NDArray[np.complex64], peak: int, total: complex) -> Sync | None:
        """Test a peak of the metric coherently.

        Args:
            samples: complex64; must reach ``lookahead`` beyond ``peak``.
            peak: Index of the peak.
            total: The metric's complex value there.

        Returns:
            Timing and CFO, or None if this is no preamble.
        """
        length = len(self.waveform)
        coarse = float(np.angle(total)) / (2 * np.pi * SYNC_PERIOD)
        origin = max(peak + int(_LAGS[0]), 0)
        lags = peak + int(_LAGS[-1]) + 1 - origin
        span = samples[origin : origin + lags + length - 1 + self._ofdm.numerology.cp_length]
        span = span * np.exp(-2j * np.pi * coarse * np.arange(len(span))).astype(np.complex64)
        windows = np.lib.stride_tricks.sliding_window_view(span, length)[:lags]
        groups = (windows * self.waveform.conj()).reshape(lags, -1, SYNC_PERIOD).sum(axis=2)
        bins = 4 << (groups.shape[1] - 1).bit_length()
        power = np.abs(fft.fft(groups, bins, axis=1)) ** 2
        # The coarse CFO is good to a tenth of a sync line's spacing; beyond that only noise can win.
        reach = bins // 10
        power = np.roll(power, reach, axis=1)[:, : 2 * reach + 1]
        lag, peak_bin = np.unravel_index(int(np.argmax(power)), power.shape)
        energy = float(np.vdot(windows[lag], windows[lag]).real)
        quality = float(power[lag, peak_bin]) / (length * energy) if energy > 0 else 0.0
        if quality * length < _STRICT:
            return None
        fine = (peak_bin - reach + vertex(power[lag], int(peak_bin))) / (bins * SYNC_PERIOD)
        first = self._first_path(span, int(lag), fine)
        return Sync(origin + first, coarse + float(fine), quality)

    def _first_path(self, span: NDArray[np.complex64], strongest: int, cfo: float) -> int:
        """Return the first lag within a cyclic prefix of the strongest path that exceeds noise and side lobes."""
        training = self.waveform[self._training_offset :]
        reach = self._ofdm.numerology.cp_length
        low = max(strongest - reach, 0)
        part = span[low + self._training_offset : strongest + self._training_offset + len(training)]
        part = part * np.exp(-2j * np.pi * cfo * np.arange(len(part))).astype(np.complex64)
        # A correlation at so many lags is cheapest by FFTs.
        size = fft.next_fast_len(len(part))
        product = fft.fft(part, size) * fft.fft(training, size).conj()
        power = np.abs(fft.ifft(product)[: len(part) - len(training) + 1]) ** 2
        noise = len(training) * float(np.vdot(part, part).real) / len(part)
        floor = max(10 ** (_PATH_FLOOR_DB / 10) * float(power[-1]), _PATH_NOISE * noise)
        return low + int(np.argmax(power >= min(floor, float(power[-1]))))


@compiled(nogil=True)
def _metric(
    re: NDArray[np.float32],
    im: NDArray[np.float32],
    period: NDArray[np.complex64],
    changes: NDArray[np.float32],
    loose: float,
) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
    size, repeats = len(period), len(changes) + 1
    count = len(re) - size * repeats + 1
    total = np.empty(count, np.complex64)
    above = np.empty(count, np.bool_)
    block = 2048
    reach = block + size * (repeats - 1)
    c_re, c_im = np.empty(reach, np.float32), np.empty(reach, np.float32)
    p_re, p_im = np.empty(reach, np.float32), np.empty(reach, np.float32)
    t_re, t_im = np.empty(block, np.float32), np.empty(block, np.float32)
    power, energy = np.empty(reach, np.float32), np.empty(block, np.float32)
    threshold = np.float32(loose * loose)
    # The inverse of a smaller energy would overflow float32.
    least = np.float32(1e-30)
    # Blocks fit the cache; the inner loops run over samples, so that they are vectorised.
    for start in range(0, count, block):
        here = min(block, count - start)
        wide = here + size * (repeats - 1)
        c_re[:wide] = np.float32(0)
        c_im[:wide] = np.float32(0)
        power[:wide] = np.float32(0)
        for i in range(size):
            b_re, b_im = period[i].real, period[i].imag
            for n in range(wide):
                x, y = re[start + n + i], im[start + n + i]
                c_re[n] += b_re * x + b_im * y
                c_im[n] += b_re * y - b_im * x
                power[n] += x * x + y * y
        for n in range(wide - size):
            p_re[n] = c_re[n + size] * c_re[n] + c_im[n + size] * c_im[n]
            p_im[n] = c_im[n + size] * c_re[n] - c_re[n + size] * c_im[n]
        t_re[:here] = np.float32(0)
        t_im[:here] = np.float32(0)
        energy[:here] = power[:here]
        for m in range(repeats - 1):
            for n in range(here):
                t_re[n] += changes[m] * p_re[n + m * size]
                t_im[n] += changes[m] * p_im[n + m * size]
                energy[n] += power[n + (m + 1) * size]
        for n in range(here):
            scale = np.float32(1) / (size * max(energy[n], least))
            real, imag = t_re[n] * scale, t_im[n] * scale
            total[start + n] = complex(real, imag)
            above[start + n] = real * real + imag * imag > threshold
    return total, above


@compiled(nogil=True)
def _look(
    samples: NDArray[np.complex64],
    total: NDArray[np.complex64],
    above: NDArray[np.bool_],
    period: NDArray[np.complex64],
    cover: NDArray[np.float32],
    least: float,
) -> None:
    """Keep those peaks in ``above`` near which the synchronisation part adds up coherently.

    Its power must be ``least`` times the mean power of noise of the same energy.
    """
    size, repeats = len(period), len(cover)
    correlations = np.empty(repeats + 2, np.complex64)
    phases = np.empty(7, np.complex64)
    # A strong burst raises hundreds of samples: the slopes of its peak and far lower peaks are skipped.
    reaches = ((4, 1.0), (size * repeats // 2, 2.25))
    for peak in np.flatnonzero(above):
        height = total[peak].real ** 2 + total[peak].imag ** 2
        for reach, times in reaches:
            for near in total[max(peak - reach, 0) : peak + reach + 1]:
                if near.real**2 + near.imag**2 > times * height:
                    above[peak] = False
                    break
        if not above[peak]:
            continue
        energy = 0.0
        for n in range(size * repeats):
            energy += samples[peak + n].real ** 2 + samples[peak + n].imag ** 2
        # The phase from period to period by the metric is good to a tenth of a turn.
        turn = np.angle(total[peak])
        for i in range(len(phases)):
            phases[i] = np.exp(-1j * (turn + (i - len(phases) // 2) * 0.8 * np.pi / repeats))
        best = 0.0
        # A metric that noise has moved peaks a period off, or a sample.
        for beside in range(-1, 2):
            for m in range(repeats + 2):
                place = peak + beside + (m - 1) * size
                value = np.complex64(0)
                if 0 <= place <= len(samples) - size:
                    for n in range(size):
                        value += samples[place + n] * period[n].conjugate()
                correlations[m] = value
            for periods in range(3):
                for phase in phases:
                    # Horner's rule.
                    value = np.complex64(0)
                    for m in range(repeats - 1, -1, -1):
                        value = value * phase + correlations[periods + m] * cover[m]
                    best = max(best, float(value.real**2 + value.imag**2))
        above[peak] = best >= least * energy
