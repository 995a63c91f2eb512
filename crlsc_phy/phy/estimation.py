"""Channel estimation over the cyclic prefix, and tracking of carrier phase and timing through a burst."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crlsc_phy.phy.ofdm import Ofdm

__all__ = ["ChannelEstimator", "track"]

_STEPS = 5
# A tap's prior never falls below this part of the mean: a tap ruled out by mistake may come back.
_PRIOR_FLOOR = 1e-4

# Random walk a symbol of phase [rad^2], frequency [(rad/symbol)^2], slope [(rad/carrier)^2] and its drift. They bound
# how far the tracker averages: an oscillator's phase noise and Doppler up to a few per mille of the symbol rate.
_WALK = np.array([1e-5, 1e-9, 1e-11, 1e-15])
_STEP = np.eye(4) + np.diag((1.0, 0.0, 1.0), 1)


class ChannelEstimator:
    """Smooths a channel estimate: its impulse response must fit into the cyclic prefix.

    The taps have independent Gaussian priors whose variances are learned from the estimate itself by maximum evidence
    (M. E. Tipping, "Sparse Bayesian learning and the relevance vector machine", JMLR 2001, eq. 16), so that empty
    taps stop adding noise.

    Args:
        ofdm: Carriers and the cyclic prefix.
    """

    def __init__(self, ofdm: Ofdm) -> None:
        numerology = ofdm.numerology
        delays = np.arange(numerology.cp_length + 1)
        self._basis = np.exp(-2j * np.pi * np.outer(ofdm.carriers, delays) / numerology.fft_size)
        self._gram = self._basis.conj().T @ self._basis

    def smooth(self, raw: NDArray[np.complex64], noise: float) -> tuple[NDArray[np.complex64], float]:
        """Estimate the channel.

        Args:
            raw: Least-squares estimate on every occupied carrier, complex64 [occupied].
            noise: Variance of its error.

        Returns:
            Minimum mean-square error estimate, complex64 [occupied]; and how many taps' worth of noise is in it.
        """
        matched = self._basis.conj().T @ raw
        power = max(float(np.mean(np.abs(raw) ** 2)) - noise, 0.01 * noise, 1e-30)
        prior = np.full(len(matched), power / len(matched))
        noise = max(noise, 1e-6 * power)
        taps = matched
        free = prior
        for _ in range(_STEPS):
            covariance = np.linalg.inv(self._gram / noise + np.diag(1 / prior))
            taps = covariance @ matched / noise
            free = 1 - covariance.diagonal().real / prior
            prior = np.maximum(np.abs(taps) ** 2 / np.maximum(free, 1e-3), _PRIOR_FLOOR * power / len(matched))
        return np.asarray(self._basis @ taps, np.complex64), float(np.sum(free))


def track(
    rotation: NDArray[np.complex64],
    gain: NDArray[np.float32],
    carriers: NDArray[np.int64],
    noise: float,
    spread: tuple[float, float],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Follow common phase and phase slope over the symbols of a burst.

    A Kalman filter with the state (phase, phase a symbol, slope, slope a symbol), linearised at each pilot, and the
    Rauch-Tung-Striebel smoother back over it.

    Args:
        rotation: Received pilots times the conjugate of what the channel estimate expects, complex64
            [symbols, pilots].
        gain: Power of the channel estimate on the pilots, float32 [pilots].
        carriers: Indices of the pilot carriers, int64 [pilots].
        noise: Variance of the noise on a carrier.
        spread: Standard deviation of the frequency left over [rad/symbol] and of the slope's drift
            [rad/carrier/symbol].

    Returns:
        Phase [rad], float64 [symbols]; slope [rad/carrier], float64 [symbols]; and the variance of the phase.
    """
    start = np.array([0.05, spread[0] ** 2, (0.05 / np.max(np.abs(carriers))) ** 2, spread[1] ** 2])
    symbols = len(rotation)
    predicted, filtered = np.zeros((symbols, 4)), np.zeros((symbols, 4))
    predicted_cov, filtered_cov = np.zeros((symbols, 4, 4)), np.zeros((symbols, 4, 4))
    predicted_cov[0] = np.diag(start)
    _filter(
        rotation.astype(np.complex128),
        gain.astype(np.float64),
        carriers.astype(np.float64),
        noise,
        predicted,
        predicted_cov,
        filtered,
        filtered_cov,
    )
    back = filtered_cov[:-1] @ _STEP.T @ np.linalg.inv(predicted_cov[1:])
    _smooth(predicted, predicted_cov, filtered, filtered_cov, back)
    return filtered[:, 0], filtered[:, 2], filtered_cov[:, 0, 0]


@njit(cache=True, nogil=True)
def _filter(
    rotation: NDArray[np.complex128],
    gain: NDArray[np.float64],
    carriers: NDArray[np.float64],
    noise: float,
    predicted: NDArray[np.float64],
    predicted_cov: NDArray[np.float64],
    filtered: NDArray[np.float64],
    filtered_cov: NDArray[np.float64],
) -> None:
    """Forward pass; fills in all but the first prediction. Plain loops: 4 x 4 is too small for BLAS."""
    symbols, pilots = rotation.shape
    gains_on_state = np.empty(4)
    for s in range(symbols):
        x, p = filtered[s], filtered_cov[s]
        for i in range(4):
            x[i] = predicted[s, i]
            for j in range(4):
                p[i, j] = predicted_cov[s, i, j]
        for k in range(pilots):
            if gain[k] <= 0.0:
                continue
            turned = rotation[s, k] * np.exp(-1j * (x[0] + carriers[k] * x[2]))
            residual = turned.imag / gain[k]
            for i in range(4):
                gains_on_state[i] = p[i, 0] + carriers[k] * p[i, 2]
            variance = gains_on_state[0] + carriers[k] * gains_on_state[2] + noise / (2 * gain[k])
            for i in range(4):
                x[i] += gains_on_state[i] / variance * residual
                for j in range(4):
                    p[i, j] -= gains_on_state[i] * gains_on_state[j] / variance
        if s + 1 < symbols:
            ahead, cov = predicted[s + 1], predicted_cov[s + 1]
            for i in range(4):
                ahead[i] = x[i] + (x[i + 1] if i % 2 == 0 else 0.0)
                for j in range(4):
                    cov[i, j] = p[i, j] + (p[i + 1, j] if i % 2 == 0 else 0.0)
            for i in range(4):
                for j in range(0, 4, 2):
                    cov[i, j] += cov[i, j + 1]
                cov[i, i] += _WALK[i]


@njit(cache=True, nogil=True)
def _smooth(
    predicted: NDArray[np.float64],
    predicted_cov: NDArray[np.float64],
    filtered: NDArray[np.float64],
    filtered_cov: NDArray[np.float64],
    back: NDArray[np.float64],
) -> None:
    """Backward pass; turns the filtered states and covariances into smoothed ones."""
    half = np.empty((4, 4))
    for s in range(len(filtered) - 2, -1, -1):
        for i in range(4):
            for j in range(4):
                filtered[s, i] += back[s, i, j] * (filtered[s + 1, j] - predicted[s + 1, j])
                half[i, j] = 0.0
                for k in range(4):
                    half[i, j] += back[s, i, k] * (filtered_cov[s + 1, k, j] - predicted_cov[s + 1, k, j])
        for i in range(4):
            for j in range(4):
                for k in range(4):
                    filtered_cov[s, i, j] += half[i, k] * back[s, j, k]
