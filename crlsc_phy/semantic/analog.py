"""Analog detail: the latent of the detail coder as complex symbols, without quantisation.

    latent -> decorrelated (Karhunen-Loeve) -> scaled by variance^(-1/4) -> pairs to complex symbols -> modem

Components are sent as they are, strongest first, so that a lower rate leaves out the weakest; the scaling is the best a
linear code can do with a power limit (K.-H. Lee and D. P. Petersen, "Optimal linear coding for vector channels", IEEE
Trans. Communications 1976). The receiver weighs each by what the noise leaves of it. Nothing is trained for this: the
statistics of the latent are those of the bundle's codebooks, which stand for it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import FrameError

__all__ = ["LatentTransform"]

Symbols = npt.NDArray[np.complex64]
Latent = npt.NDArray[np.float32]

# The scale crosses in a byte of the header: steps of 0.38 dB, a range of 48 dB on either side of one.
_STEPS_PER_OCTAVE = 16
_MIDDLE = 128


class LatentTransform:
    """Latents to symbols and back.

    Args:
        codebooks: Of the detail coder, float32 [L, K, D].

    Attributes:
        most: Complex symbols a latent position at the highest rate, D / 2.
    """

    def __init__(self, codebooks: npt.NDArray[np.float32]) -> None:
        books = codebooks.astype(np.float64)
        self._mean = books.mean(axis=1).sum(axis=0)
        # A residual quantiser's levels are all but independent: their covariances add up to that of the latent.
        variance, vectors = np.linalg.eigh(sum(np.cov(book.T) for book in books))
        variance = np.maximum(variance[::-1], 1e-9 * variance[-1])
        self._spread = variance**0.25
        self._vectors = vectors[:, ::-1]
        self._dim = len(variance)
        self.most = self._dim // 2

    def forward(self, latent: Latent, rate: int) -> tuple[Symbols, int]:
        """Symbols of a latent.

        Args:
            latent: float32 [D, h, w].
            rate: Complex symbols a position, 1 to :attr:`most`.

        Returns:
            complex64 [rate * h * w] of unit mean power, component by component; and the scale, 0 to 255.
        """
        values = (
            (latent.reshape(self._dim, -1).T - self._mean) @ self._vectors[:, : 2 * rate] / self._spread[: 2 * rate]
        )
        power = 2 * float(np.mean(values**2))
        scale = round(np.clip(_STEPS_PER_OCTAVE * math.log2(max(math.sqrt(power), 1e-9)) + _MIDDLE, 0, 255))
        symbols = (values[:, 0::2] + 1j * values[:, 1::2]).T.ravel() / max(math.sqrt(power), 1e-9)
        return symbols.astype(np.complex64), scale

    def inverse(self, symbols: Symbols, scale: int, shape: tuple[int, int], snr_db: float) -> Latent:
        """The latent that received symbols suggest.

        Args:
            symbols: Estimates of least error given unit power, complex64 [rate * h * w].
            scale: From :meth:`forward`.
            shape: ``(h, w)``.
            snr_db: Es/N0 of the symbols.

        Returns:
            float32 [D, h, w].

        Raises:
            FrameError: If the number of symbols does not fit ``shape``.
        """
        positions = shape[0] * shape[1]
        rate, rest = divmod(len(symbols), positions)
        if rest or not 1 <= rate <= self.most:
            raise FrameError(
                f"analog detail has {len(symbols)} symbols; {positions} positions take 1 to {self.most} each"
            )
        noise = 10 ** (-snr_db / 10)
        gain = 2 ** ((scale - _MIDDLE) / _STEPS_PER_OCTAVE)
        pairs = symbols.reshape(rate, positions).T
        parts = np.stack((pairs.real, pairs.imag), axis=2).reshape(positions, 2 * rate).astype(np.float64)
        # The estimates assume unit power of all; a component has its own, in units of the mean of a complex symbol.
        power = 2 * self._spread[: 2 * rate] ** 2 / gain**2
        parts *= (1 + noise) * power / (power + noise) * gain * self._spread[: 2 * rate]
        latent = parts @ self._vectors[:, : 2 * rate].T + self._mean
        return np.ascontiguousarray(latent.T.reshape(self._dim, *shape), np.float32)
