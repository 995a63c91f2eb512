"""Symbols through white noise and flat fading in perfect synchrony: the link of the textbooks.

    y = h x + n      h = 1, or complex Gaussian with or without a direct path
    y / h            to the decoder, which knows h and the noise's variance

One of the links of :mod:`crlsc_phy.link.symbols`.
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
        block: Whether a gain stands for a burst; else each symbol has its own, which is ideal interleaving.

    Raises:
        SweepError: If the model has more than one path or antenna.
    """

    def __init__(self, settings: ChannelSettings, block: bool = False) -> None:
        if settings.model not in FLAT_MODELS:
            raise SweepError(
                f"channel model {settings.model} is none of symbols, which are {', '.join(FLAT_MODELS)}; "
                "send over the grid (air: grid) or the modem (modem: true)"
            )
        if settings.rx * settings.tx > 1:
            raise SweepError(f"channel has {settings.tx} x {settings.rx} antennas; symbols take tx: 1 and rx: 1")
        self._block = block
        self._fades = settings.model != "awgn"
        ratio = settings.rice_ratio
        self._direct, self._scattered = np.sqrt(ratio / (1 + ratio)), np.sqrt(1 / (1 + ratio))

    def uses(self, symbols: int) -> int:
        """Channel uses of so many symbols: there is nothing else on this link."""
        return symbols

    def send(
        self, symbols: NDArray[np.complex64], snr_db: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Pass bursts through.

        Args:
            symbols: complex64 [bursts, n], unit mean power.
            snr_db: Mean Es/N0.
            rng: Draws gains and noise.

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
    """Circular Gaussian numbers of unit variance, complex64 [rows, columns]."""
    parts = rng.standard_normal((rows, 2 * columns), np.float32)
    parts *= np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)
