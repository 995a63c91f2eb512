"""Symbols through white noise and flat fading in perfect synchrony, as in textbooks.

    y = h x + n      h = 1, or complex Gaussian with or without a direct path
    y / h            goes to the decoder, which knows h and the variance of the noise

This is one of the links of :mod:`crlsc_phy.link.symbols`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import SweepError

__all__ = ["FLAT_MODELS", "FlatLink"]

FLAT_MODELS = ("awgn", "rayleigh", "rician", "rayleigh-block", "rician-block")
"""Channel models of :class:`FlatLink`."""

# The inverse of a smaller power would overflow float32.
_LEAST_GAIN = 1e-9


class FlatLink:
    """AWGN and flat fading of single symbols, with perfect knowledge of the channel.

    Args:
        settings: Settings with a model of :data:`FLAT_MODELS`, and ``rice_k_db`` for the Rician ones. The other
            settings are not used.
        block: Whether a gain holds for a whole burst. Otherwise each symbol has its own, as after ideal interleaving.

    Raises:
        SweepError: If the model has several paths, or the channel several antennas.
    """

    def __init__(self, settings: ChannelSettings, block: bool = False) -> None:
        if settings.model not in FLAT_MODELS:
            raise SweepError(
                f"channel model {settings.model!r} needs a waveform; set air: grid or modem: true, or choose one of "
                f"{', '.join(FLAT_MODELS)}"
            )
        if settings.rx * settings.tx > 1:
            raise SweepError(f"channel has {settings.tx} x {settings.rx} antennas; set tx: 1 and rx: 1 without a modem")
        self._block = block
        self._fades = settings.model != "awgn"
        ratio = settings.rice_ratio
        self._direct, self._scattered = np.sqrt(ratio / (1 + ratio)), np.sqrt(1 / (1 + ratio))

    def uses(self, symbols: int) -> int:
        """Return the channel uses of a burst of ``symbols``: just these, since the link adds no overhead."""
        return symbols

    def send(
        self, symbols: NDArray[np.complex64], snr_db: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Send bursts through noise and fading.

        Args:
            symbols: Symbols of unit mean power, complex64 [bursts, n].
            snr_db: Mean Es/N0 in dB.
            rng: Generator of gains and noise.

        Returns:
            Equalised symbols, complex64 [bursts, n], and the variance of the noise on each, float32 [bursts, n].
        """
        bursts, count = symbols.shape
        variance = np.float32(10 ** (-snr_db / 10))
        noise = _gaussian(rng, bursts, count) * np.sqrt(variance)
        if not self._fades:
            return symbols + noise, np.full(symbols.shape, variance)
        gains = np.complex64(self._scattered) * _gaussian(rng, bursts, 1 if self._block else count)
        gains += np.complex64(self._direct)
        power = np.maximum(gains.real**2 + gains.imag**2, np.float32(_LEAST_GAIN))
        noise *= gains.conj() / power
        return symbols + noise, np.broadcast_to(variance / power, symbols.shape)


def _gaussian(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.complex64]:
    """Draw circular Gaussian numbers of unit variance, complex64 [rows, columns]."""
    parts = rng.standard_normal((rows, 2 * columns), np.float32)
    parts *= np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)
