"""Symbols through white noise and flat fading in perfect synchrony: the link of the textbooks.

    y = h x + n      h = 1, or complex Gaussian with or without a direct path
    y / h            the receiver knows h and the noise's variance
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import SweepError

__all__ = ["FLAT_MODELS", "FlatLink"]

FLAT_MODELS = ("awgn", "rayleigh", "rician", "rayleigh-block", "rician-block")
"""Channel models that :class:`FlatLink` knows."""

# Below it a gain is as good as none, and its inverse would leave float32.
_LEAST_GAIN = 1e-9


class FlatLink:
    """AWGN and flat fading at the level of symbols, with perfect channel knowledge.

    Args:
        settings: Its model is one of :data:`FLAT_MODELS`, with ``rice_k_db`` for the Rician ones. Nothing else of it
            bears on symbols.
        hold: Symbols for which a gain stands, then another is drawn; 1 is ideal interleaving.

    Raises:
        SweepError: If the model has more than one path or antenna.
    """

    def __init__(self, settings: ChannelSettings, hold: int = 1) -> None:
        if settings.model not in FLAT_MODELS or settings.rx * settings.tx > 1:
            raise SweepError(
                f"channel {settings.model} with {settings.tx} x {settings.rx} antennas needs air: grid; "
                f"symbols alone pass through {', '.join(FLAT_MODELS)} between single antennas"
            )
        self._hold = hold
        self._fades = settings.model != "awgn"
        ratio = settings.rice_ratio
        self._direct, self._scattered = np.sqrt(ratio / (1 + ratio)), np.sqrt(1 / (1 + ratio))

    def uses(self, symbols: int) -> int:
        """Channel uses of so many symbols: there is nothing else on this link."""
        return symbols

    def send(
        self, symbols: NDArray[np.complex64], snr_db: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Pass symbols through.

        Args:
            symbols: complex64 [n], unit mean power.
            snr_db: Mean Es/N0.
            rng: Draws gains and noise.

        Returns:
            Equalised symbols, complex64 [n], and the variance of the noise on each, float32 [n].
        """
        variance = np.float32(10 ** (-snr_db / 10))
        noise = _gaussian(rng, len(symbols)) * np.sqrt(variance)
        if not self._fades:
            return symbols + noise, np.full(len(symbols), variance)
        gains = np.complex64(self._scattered) * _gaussian(rng, -(-len(symbols) // self._hold))
        gains += np.complex64(self._direct * np.exp(2j * np.pi * rng.random()))
        power = np.maximum(gains.real**2 + gains.imag**2, np.float32(_LEAST_GAIN))
        inverse, power = (np.repeat(part, self._hold)[: len(symbols)] for part in (gains.conj() / power, power))
        return symbols + inverse * noise, variance / power


def _gaussian(rng: np.random.Generator, count: int) -> NDArray[np.complex64]:
    """Circular Gaussian numbers of unit variance, complex64 [count]."""
    parts = rng.standard_normal(2 * count, np.float32) * np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)
