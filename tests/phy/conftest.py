"""Frames to send and a small channel to send them through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.signal import lfilter

from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.phy import BurstModem, Numerology


@dataclass(frozen=True)
class Channel:
    """Es/N0 on the occupied carriers, CFO in cycles/sample, clock error in ppm, taps, and silence around the bursts."""

    snr_db: float = np.inf
    cfo: float = 0.0
    sro_ppm: float = 0.0
    taps: tuple[complex, ...] = (1.0,)
    gain_db: float = 0.0
    lead: int = 0
    tail: int = 0

    def __call__(self, iq, numerology=None, seed=0):
        numerology = numerology or Numerology()
        rng = np.random.default_rng(seed)
        x = np.concatenate((np.zeros(self.lead), iq, np.zeros(self.tail + 64)))
        x = lfilter(np.asarray(self.taps) / np.linalg.norm(self.taps), 1, x)
        if self.sro_ppm:
            x = resample(x, self.sro_ppm)
        x = x * np.exp(2j * np.pi * self.cfo * np.arange(len(x)) + 1j * rng.uniform(0, 6))
        variance = 10 ** (-self.snr_db / 10) * numerology.fft_size / numerology.occupied
        x = x + np.sqrt(variance / 2) * (rng.standard_normal(len(x)) + 1j * rng.standard_normal(len(x)))
        return (x * 10 ** (self.gain_db / 20)).astype(np.complex64)


def resample(x, ppm):
    """Read ``x`` with a clock that is off by ``ppm``: windowed sinc interpolation over 32 samples."""
    reach = 16
    padded = np.pad(x, reach)
    times = np.arange(int(len(x) / (1 + abs(ppm) * 1e-6))) * (1 + ppm * 1e-6)
    whole = np.floor(times).astype(int)
    offsets = np.arange(-reach + 1, reach)
    distance = (times - whole)[:, None] - offsets
    weights = np.sinc(distance) * np.cos(np.pi * distance / (2 * reach)) ** 2
    return np.sum(padded[reach + whole[:, None] + offsets] * weights, axis=1)


@pytest.fixture(scope="session")
def make_frame():
    def make(semantic=16, detail=288, seed=0, height=64, width=64, sequence=0):
        rng = np.random.default_rng(seed)
        header = FrameHeader(rng.bytes(4), height, width, semantic, detail, sequence=sequence)
        return SemanticFrame(header, rng.bytes(semantic), rng.bytes(detail))

    return make


@pytest.fixture(scope="session")
def channel():
    return Channel


@pytest.fixture(scope="session")
def damaged_header(make_frame):
    """A burst whose preamble is whole and whose header is not."""
    iq = BurstModem().modulate(make_frame()).copy()
    iq[500:] = iq[500:][::-1]
    return iq
