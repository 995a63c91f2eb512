"""Frames and channels of the modem's benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.channel import ChannelSettings, StreamChannel
from crlsc_phy.frame import SYMBOL, FrameHeader, Mode, SemanticFrame
from crlsc_phy.link.burst import BurstLink, Passage
from crlsc_phy.phy import Numerology
from crlsc_phy.phy.mcs import find_mcs

Samples = NDArray[np.complex64]

MAX_CFO = 0.02
"""Largest CFO in cycles/sample."""


def make_frame(rng: np.random.Generator, detail_bytes: int = 288) -> SemanticFrame:
    """Draw a frame: 16 bytes of air code and ``detail_bytes`` of detail, by default those of a 64 x 64 picture."""
    header = FrameHeader(rng.bytes(4), 64, 64, 16, detail_bytes, sequence=int(rng.integers(65536)))
    return SemanticFrame(header, rng.bytes(16), rng.bytes(detail_bytes))


def make_analog_frame(rng: np.random.Generator, count: int) -> SemanticFrame:
    """Draw a frame with ``count`` complex symbols as its detail."""
    symbols = complex_noise(rng, count, 1.0)
    header = FrameHeader(rng.bytes(4), 64, 64, 16, symbols.nbytes, mode=Mode.ANALOG)
    return SemanticFrame(header, rng.bytes(16), symbols.astype(SYMBOL).tobytes())


def complex_noise(rng: np.random.Generator, count: int, variance: float) -> Samples:
    """Draw circular Gaussian noise, complex64 [count]."""
    parts = rng.standard_normal((count, 2), np.float32) * np.float32(np.sqrt(variance / 2))
    return parts.view(np.complex64).ravel()


def band(numerology: Numerology) -> dict[str, Any]:
    """Return the settings of a channel that say what the modem fills of the band."""
    return {"sample_rate": numerology.sample_rate, "occupied": numerology.occupied / numerology.fft_size}


def noise_variance(numerology: Numerology, snr_db: float) -> float:
    """Return the variance of the noise on a sample for an Es/N0 and a burst of unit mean power."""
    return ChannelSettings(snr_db=snr_db, **band(numerology)).noise_variance


def fade(
    rng: np.random.Generator, samples: Samples, powers: tuple[float, ...], doppler_hz: float, sample_rate: float = 1e6
) -> Samples:
    """Send samples over independent Rayleigh paths that lie a sample apart, with Clarke's Doppler spectrum.

    The package's delay profiles are those of 3GPP. These few taps lie on the grid of the samples, so that the
    receiver's channel estimate is tested without errors of interpolation.

    Args:
        rng: Draws the paths.
        samples: complex64 [n].
        powers: Mean power of each path; they are scaled to add up to 1.
        doppler_hz: Largest Doppler shift.
        sample_rate: In samples/s.
    """
    total = np.zeros_like(samples)
    for delay, power in enumerate(np.asarray(powers) / sum(powers)):
        seed = int(rng.integers(1 << 63))
        path = StreamChannel("rayleigh", doppler_hz=doppler_hz, sample_rate=sample_rate, seed=seed)
        total += np.float32(np.sqrt(power)) * path(np.pad(samples, (delay, 0))[: len(samples)])
    return total


def on_air(
    rng: np.random.Generator,
    burst: Samples,
    numerology: Numerology,
    snr_db: float,
    max_cfo: float = MAX_CFO,
    **radio: Any,
) -> Samples:
    """Send a burst over AWGN at a random time, phase and CFO, and return the samples at the receiver.

    Args:
        rng: Draws time, phase, CFO and noise.
        burst: complex64 [n] of unit mean power.
        numerology: The modem's.
        snr_db: Es/N0 on occupied carriers.
        max_cfo: Largest CFO in cycles/sample.
        radio: Further settings of :class:`crlsc_phy.channel.StreamChannel`.
    """
    turned = burst * np.exp(2j * np.pi * rng.random())
    before = int(rng.integers(300, 1500))
    radio["cfo_hz"] = rng.uniform(-max_cfo, max_cfo) * numerology.sample_rate
    channel = StreamChannel("awgn", snr_db, seed=int(rng.integers(1 << 63)), **band(numerology), **radio)
    return channel(np.pad(turned, (before, 300 + channel.latency)))


def send(
    rng: np.random.Generator,
    frame: SemanticFrame,
    snr_db: float,
    mcs: int | str = "qpsk-1/2",
    papr_db: float | None = None,
) -> Passage:
    """Send a frame over AWGN at a random time, phase and CFO to a receiver that has heard nothing before.

    Args:
        rng: Draws time, phase, CFO and noise.
        frame: Complete.
        snr_db: Es/N0 on occupied carriers.
        mcs: Name or index of the rate of the detail.
        papr_db: Where the sender clips, see :class:`crlsc_phy.phy.BurstModem`.
    """
    settings = ChannelSettings(cfo_hz=rng.uniform(-MAX_CFO, MAX_CFO) * Numerology().sample_rate)
    return BurstLink(settings, papr_db).send(frame, find_mcs(mcs), snr_db, rng.integers(1 << 32, size=4).tolist())
