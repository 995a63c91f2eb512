"""Impairments of the radios at both ends: oscillators, clocks, amplifiers, mixers and converters.

All are functions of the position of a sample in the stream, so that the result does not depend on how it is cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.channel.settings import ChannelSettings
from crlsc_phy.machine import compiled

__all__ = ["Clock", "Oscillator", "amplified", "converted"]

Samples = NDArray[np.complex64]
_GRID = 64
"""Samples from one exact rotation to the next; those in between are a geometric series."""
_SLACK = 512
"""Samples by which a clock may be ahead or behind before samples are skipped or repeated."""
_REACH = 16
_PHASES = 512


class Oscillator:
    """Carrier frequency offset, its drift, and phase noise.

    Args:
        settings: Gives ``cfo_hz``, ``drift_hz_s``, ``phase_noise_hz``, ``sample_rate`` and ``seed``.
    """

    def __init__(self, settings: ChannelSettings) -> None:
        self._rng = np.random.default_rng([settings.seed, 2])
        self._anchor, self._cycles, self._wander = 0, 0.0, 0.0
        self._take(settings)

    def _take(self, settings: ChannelSettings) -> None:
        self._frequency = settings.cfo_hz / settings.sample_rate
        self._drift = settings.drift_hz_s / settings.sample_rate**2
        # Standard deviation of the step of a Wiener process in radians; the line is Lorentzian.
        self._step = float(np.sqrt(2 * np.pi * settings.phase_noise_hz / settings.sample_rate))

    def change(self, settings: ChannelSettings, place: int) -> None:
        """Use other settings from the sample at ``place`` on, without a jump of the phase."""
        since = place - self._anchor
        self._cycles = float(np.mod(self._cycles + self._frequency * since + 0.5 * self._drift * since**2, 1.0))
        self._anchor = place
        self._take(settings)

    def cfo(self, place: int) -> float:
        """Return the frequency offset at the sample at ``place``, in cycles/sample."""
        return self._frequency + self._drift * (place - self._anchor)

    def turn(self, samples: Samples, place: int) -> None:
        """Rotate samples in place, complex64 [antennas, n], the first of which is at ``place``."""
        if self._frequency or self._drift or self._cycles:
            _rotate(samples, place - self._anchor, self._cycles, self._frequency, self._drift)
        if self._step or self._wander:
            steps = self._rng.standard_normal(samples.shape[1]) * self._step
            phase = np.cumsum(np.r_[self._wander, steps])[1:]
            self._wander = float(phase[-1]) if len(phase) else self._wander
            samples *= np.exp(1j * phase).astype(np.complex64)


@compiled(nogil=True)
def _rotate(samples: Samples, place: int, cycles: float, frequency: float, drift: float) -> None:
    count = samples.shape[1]
    done = 0
    while done < count:
        start = (place + done) // _GRID * _GRID
        now = cycles + frequency * start + 0.5 * drift * start * start
        after = start + _GRID
        then = cycles + frequency * after + 0.5 * drift * after * after
        angle, step = 2 * np.pi * (now - np.floor(now)), 2 * np.pi * (then - now) / _GRID
        turn = complex(np.cos(angle), np.sin(angle))
        by = complex(np.cos(step), np.sin(step))
        for _ in range(place + done - start):
            turn *= by
        length = min(after - (place + done), count - done)
        for n in range(length):
            factor = np.complex64(turn)
            for antenna in range(len(samples)):
                samples[antenna, done + n] *= factor
            turn *= by
        done += length


class Clock:
    """Sampling clock of a receiver that is fast or slow.

    The output is as long as the input, and 512 samples late to begin with. When the clock is ahead or behind by nearly
    as many, 992 samples are repeated or skipped. At 20 ppm and 1 MS/s that happens every 50 s.

    Args:
        settings: Gives ``sro_ppm``, which must not be None.
        antennas: Number of receive antennas.

    Attributes:
        latency: Samples by which the output is late to begin with.
        slips: Number of times that samples were repeated or skipped.
    """

    latency = _SLACK

    def __init__(self, settings: ChannelSettings, antennas: int) -> None:
        self._rate = (settings.sro_ppm or 0.0) * 1e-6
        self._anchor, self._ahead = 0, 0.0
        self.slips = 0
        self._past = np.zeros((antennas, 2 * _SLACK + 2 * _REACH), np.complex64)
        grid = np.arange(_PHASES + 1) / _PHASES
        distance = np.arange(-_REACH + 1, _REACH + 1) - grid[:, None]
        window = np.i0(8.0 * np.sqrt(np.maximum(1 - (distance / _REACH) ** 2, 0))) / np.i0(8.0)
        self._kernel = (np.sinc(distance) * window).astype(np.float32)

    def change(self, settings: ChannelSettings, place: int) -> None:
        """Run at another rate from the sample at ``place`` on."""
        self._ahead += self._rate * (place - self._anchor)
        self._anchor, self._rate = place, (settings.sro_ppm or 0.0) * 1e-6

    def run(self, samples: Samples, place: int) -> Samples:
        """Return as many samples as the clock would take, complex64 [antennas, n]; the first is at ``place``."""
        whole = np.concatenate((self._past, samples), axis=1)
        out = np.empty_like(samples)
        self._anchor, self._ahead, slips = _resample(
            whole, self._past.shape[1], place, self._anchor, self._ahead, self._rate, self._kernel, out
        )
        self.slips += slips
        self._past = whole[:, -self._past.shape[1] :].copy()
        return out


@compiled(nogil=True)
def _resample(
    whole: Samples,
    past: int,
    place: int,
    anchor: int,
    ahead: float,
    rate: float,
    kernel: NDArray[np.float32],
    out: Samples,
) -> tuple[int, float, int]:
    limit = float(_SLACK - _REACH)
    slips = 0
    for n in range(out.shape[1]):
        lead = ahead + rate * (place + n - anchor)
        if abs(lead) > limit:
            lead -= 2 * limit if lead > 0 else -2 * limit
            anchor, ahead = place + n, lead
            slips += 1
        # Computed of the shift alone, so that rounding does not depend on where the stream is cut.
        shift = int(np.floor(lead)) - _SLACK
        index = past + n + shift
        fine = (lead - np.floor(lead)) * _PHASES
        phase = int(fine)
        part = np.float32(fine - phase)
        for antenna in range(len(whole)):
            total = np.complex64(0)
            for tap in range(2 * _REACH):
                weight = kernel[phase, tap] + part * (kernel[phase + 1, tap] - kernel[phase, tap])
                total += whole[antenna, index - _REACH + 1 + tap] * weight
            out[antenna, n] = total
    return anchor, ahead, slips


def amplified(samples: Samples, settings: ChannelSettings) -> Samples:
    """Return samples, complex64 [antennas, n], limited to the magnitude ``clip_db`` over unit power (soft limiter)."""
    if settings.clip_db is None:
        return samples
    peak = np.float32(10 ** (settings.clip_db / 20))
    return np.asarray(samples * np.minimum(1, peak / np.maximum(np.abs(samples), 1e-12)), np.complex64)


def converted(samples: Samples, settings: ChannelSettings) -> Samples:
    """Return samples, complex64 [antennas, n], after the receiver's IQ imbalance, DC offset and converter."""
    if settings.iq_gain_db or settings.iq_phase_deg:
        # M. Valkama, M. Renfors, V. Koivunen, IEEE Trans. Signal Process. 49(10), 2001.
        mismatch = 10 ** (settings.iq_gain_db / 20) * np.exp(1j * np.deg2rad(settings.iq_phase_deg))
        samples = np.asarray((1 + mismatch) / 2 * samples + (1 - mismatch) / 2 * samples.conj(), np.complex64)
    if settings.dc:
        samples = samples + np.complex64(settings.dc)
    if settings.adc_bits:
        full = np.float32(10 ** (settings.adc_full_scale_db / 20))
        step = np.float32(2 * full / 2**settings.adc_bits)
        parts = np.ascontiguousarray(samples).view(np.float32)
        parts = np.clip(np.floor(parts / step), -(2 ** (settings.adc_bits - 1)), 2 ** (settings.adc_bits - 1) - 1)
        samples = ((parts + np.float32(0.5)) * step).astype(np.float32).view(np.complex64)
    return samples
