"""Analog detail: an image as complex symbols without quantisation, with or without a trained analog coder.

    learned: image -> sender network -> components -> scaled -> pairs to complex symbols -> spread -> modem
    without: image -> analysis -> latent -> decorrelated (Karhunen-Loeve) -> scaled by variance^(-1/4) -> pairs -> modem

Both ways send components strongest first, so that a lower rate leaves out the weakest. Symbols have unit power; a byte
of the header carries the scale.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import fft

from crlsc_phy.errors import FrameError
from crlsc_phy.semantic.runtime import Runtime

__all__ = ["AnalogDetail", "LatentTransform", "LearnedAnalog"]

Symbols = npt.NDArray[np.complex64]
Array = npt.NDArray[np.float32]

# The byte of the scale has steps of 0.38 dB and a range of 48 dB on either side of one.
_STEPS_PER_OCTAVE = 16
_MIDDLE = 128
# Range of Es/N0 in the training of the networks, including the errors of its estimates.
_LOWEST_SNR_DB, _HIGHEST_SNR_DB = -7.0, 24.0


class AnalogDetail(Protocol):
    """Coder of images as symbols.

    Attributes:
        most: Complex symbols for 8 x 8 pixels at the highest rate.
    """

    most: int

    def send(self, runtime: Runtime, image: Array, rate: int) -> tuple[Symbols, int]:
        """Encode an image into symbols.

        Args:
            runtime: Networks of the bundle.
            image: float32 [1, 3, H, W] in 0..1, with sides that are multiples of 8.
            rate: Complex symbols for 8 x 8 pixels, 1 to :attr:`most`.

        Returns:
            complex64 [rate * H * W / 64] of unit mean power, and the scale, 0 to 255.
        """

    def receive(
        self, runtime: Runtime, symbols: Symbols, scale: int, shape: tuple[int, int], snr_db: float, vector: Array
    ) -> Array:
        """Decode received symbols into an image.

        Args:
            runtime: Networks of the bundle.
            symbols: Least-squares (MMSE) estimates of symbols of unit power, complex64 [rate * h * w].
            scale: Scale from :meth:`send`.
            shape: Sides ``(h, w)`` in blocks of 8 pixels.
            snr_db: Es/N0 of the symbols in dB.
            vector: Semantic vector, float32 [1, S]; zero if it is lost.

        Returns:
            float32 [1, 3, 8 h, 8 w].

        Raises:
            FrameError: If the number of symbols does not fit ``shape``.
        """


class LearnedAnalog:
    """Analog detail by the trained coder of a bundle (:mod:`crlsc_phy.semantic.analog_coder`).

    Args:
        most: Complex symbols for 8 x 8 pixels at the highest rate.

    Attributes:
        most: As above.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def send(self, runtime: Runtime, image: Array, rate: int) -> tuple[Symbols, int]:
        """Encode an image into symbols and a scale.

        Args:
            runtime: Networks of the bundle.
            image: float32 [1, 3, H, W] in 0..1.
            rate: Complex symbols for 8 x 8 pixels.
        """
        components = runtime.analog_send(image)[0, : 2 * rate].astype(np.float64)
        # Brightness alone may have most of the power. Spread over all symbols it makes no peak, and no fade removes it.
        symbols, scale = _scaled(fft.fft((components[0::2] + 1j * components[1::2]).ravel(), norm="ortho"))
        return symbols, scale

    def receive(
        self, runtime: Runtime, symbols: Symbols, scale: int, shape: tuple[int, int], snr_db: float, vector: Array
    ) -> Array:
        """Decode received symbols into an image float32 [1, 3, 8 h, 8 w].

        Args:
            runtime: Networks of the bundle.
            symbols: MMSE estimates, complex64 [rate * h * w].
            scale: Scale from :meth:`send`.
            shape: Sides ``(h, w)`` in blocks of 8 pixels.
            snr_db: Es/N0 of the symbols in dB.
            vector: Semantic vector, float32 [1, S].
        """
        rate = _rate(symbols, shape, self.most)
        noise = 10 ** (-np.clip(snr_db, _LOWEST_SNR_DB, _HIGHEST_SNR_DB) / 10)
        gain = _gain(scale)
        received = fft.ifft(symbols.astype(np.complex128), norm="ortho") * ((1 + noise) * gain)
        components = np.zeros((1, 2 * self.most, *shape), np.float32)
        components[0, 0 : 2 * rate : 2] = received.real.reshape(rate, *shape)
        components[0, 1 : 2 * rate : 2] = received.imag.reshape(rate, *shape)
        state = np.array([[math.log(noise), 2 * math.log(gain), rate]], np.float32)
        return runtime.analog_receive(components, vector, state)


class LatentTransform:
    """Analog detail by the latent of the detail coder, for a bundle without an analog coder.

    The scaling is the best a linear code can do with a power limit (K.-H. Lee and D. P. Petersen, "Optimal linear
    coding for vector channels", IEEE Trans. Communications 1976). The receiver weighs each component by its SNR. No
    training is needed: the statistics of the latent are those of the codebooks.

    Args:
        codebooks: Codebooks of the detail coder, float32 [L, K, D].

    Attributes:
        most: Complex symbols of a latent position at the highest rate, D / 2.
    """

    def __init__(self, codebooks: npt.NDArray[np.float32]) -> None:
        books = codebooks.astype(np.float64)
        self._mean = books.mean(axis=1).sum(axis=0)
        # The levels of a residual quantiser are almost independent, so that their covariances add up.
        variance, vectors = np.linalg.eigh(sum(np.cov(book.T) for book in books))
        variance = np.maximum(variance[::-1], 1e-9 * variance[-1])
        self._spread = variance**0.25
        self._vectors = vectors[:, ::-1]
        self._dim = len(variance)
        self.most = self._dim // 2

    def send(self, runtime: Runtime, image: Array, rate: int) -> tuple[Symbols, int]:
        """Encode an image into symbols and a scale.

        Args:
            runtime: Networks of the bundle.
            image: float32 [1, 3, H, W] in 0..1.
            rate: Complex symbols for 8 x 8 pixels.
        """
        return self.forward(runtime.analyse(image)[0], rate)

    def receive(
        self, runtime: Runtime, symbols: Symbols, scale: int, shape: tuple[int, int], snr_db: float, vector: Array
    ) -> Array:
        """Decode received symbols into an image float32 [1, 3, 8 h, 8 w].

        Args:
            runtime: Networks of the bundle.
            symbols: MMSE estimates, complex64 [rate * h * w].
            scale: Scale from :meth:`send`.
            shape: Sides ``(h, w)`` in blocks of 8 pixels.
            snr_db: Es/N0 of the symbols in dB.
            vector: Semantic vector, float32 [1, S].
        """
        return runtime.synthesise(self.inverse(symbols, scale, shape, snr_db)[None], vector)

    def forward(self, latent: Array, rate: int) -> tuple[Symbols, int]:
        """Encode a latent into symbols.

        Args:
            latent: float32 [D, h, w].
            rate: Complex symbols of a position, 1 to :attr:`most`.

        Returns:
            complex64 [rate * h * w] of unit mean power, component by component, and the scale, 0 to 255.
        """
        values = (
            (latent.reshape(self._dim, -1).T - self._mean) @ self._vectors[:, : 2 * rate] / self._spread[: 2 * rate]
        )
        return _scaled((values[:, 0::2] + 1j * values[:, 1::2]).T.ravel())

    def inverse(self, symbols: Symbols, scale: int, shape: tuple[int, int], snr_db: float) -> Array:
        """Decode received symbols into a latent.

        Args:
            symbols: Least-squares (MMSE) estimates of symbols of unit power, complex64 [rate * h * w].
            scale: Scale from :meth:`forward`.
            shape: Sides ``(h, w)`` of the latent.
            snr_db: Es/N0 of the symbols in dB.

        Returns:
            float32 [D, h, w].

        Raises:
            FrameError: If the number of symbols does not fit ``shape``.
        """
        positions, rate = shape[0] * shape[1], _rate(symbols, shape, self.most)
        noise = 10 ** (-snr_db / 10)
        gain = _gain(scale)
        pairs = symbols.reshape(rate, positions).T
        parts = np.stack((pairs.real, pairs.imag), axis=2).reshape(positions, 2 * rate).astype(np.float64)
        # The estimates assume unit power; each component has its own, relative to the mean of a complex symbol.
        power = 2 * self._spread[: 2 * rate] ** 2 / gain**2
        parts *= (1 + noise) * power / (power + noise) * gain * self._spread[: 2 * rate]
        latent = parts @ self._vectors[:, : 2 * rate].T + self._mean
        return np.ascontiguousarray(latent.T.reshape(self._dim, *shape), np.float32)


def _scaled(symbols: npt.NDArray[np.complex128]) -> tuple[Symbols, int]:
    """Return symbols of unit mean power, and the scale that restores them."""
    rms = max(math.sqrt(float(np.mean(np.abs(symbols) ** 2))), 1e-9)
    scale = round(np.clip(_STEPS_PER_OCTAVE * math.log2(rms) + _MIDDLE, 0, 255))
    return (symbols / rms).astype(np.complex64), scale


def _gain(scale: int) -> float:
    return float(2 ** ((scale - _MIDDLE) / _STEPS_PER_OCTAVE))


def _rate(symbols: Symbols, shape: tuple[int, int], most: int) -> int:
    positions = shape[0] * shape[1]
    rate, rest = divmod(len(symbols), positions)
    if rest or not 1 <= rate <= most:
        raise FrameError(f"analog detail has {len(symbols)} symbols; {positions} positions take 1 to {most} each")
    return rate
