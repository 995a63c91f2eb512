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
    smoothed: tuple[NDArray[np.float64], NDArray[np.float64]] = _track(
        rotation.astype(np.complex128), gain.astype(np.float64), carriers.astype(np.float64), noise, start, _WALK
    )
    states, variance = smoothed
    return states[:, 0], states[:, 2], variance


@njit(cache=True, nogil=True)
def _track(
    rotation: NDArray[np.complex128],
    gain: NDArray[np.float64],
    carriers: NDArray[np.float64],
    noise: float,
    start: NDArray[np.float64],
    walk: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    symbols, pilots = rotation.shape
    step = np.eye(4)
    step[0, 1] = step[2, 3] = 1.0
    process = np.diag(walk)
    predicted, filtered = np.zeros((symbols, 4)), np.zeros((symbols, 4))
    predicted_cov, filtered_cov = np.zeros((symbols, 4, 4)), np.zeros((symbols, 4, 4))
    x, p = np.zeros(4), np.diag(start)
    for s in range(symbols):
        if s > 0:
            x = step @ x
            p = step @ p @ step.T + process
        predicted[s], predicted_cov[s] = x, p
        for k in range(pilots):
            if gain[k] <= 0.0:
                continue
            phase = x[0] + carriers[k] * x[2]
            residual = (rotation[s, k] * np.exp(-1j * phase)).imag / gain[k]
            ph = p[:, 0] + carriers[k] * p[:, 2]
            variance = ph[0] + carriers[k] * ph[2] + noise / (2 * gain[k])
            weight = ph / variance
            x = x + weight * residual
            p = p - np.outer(weight, ph)
        filtered[s], filtered_cov[s] = x, p
    states, variances = filtered.copy(), np.empty(symbols)
    smoothed_cov = p
    variances[symbols - 1] = smoothed_cov[0, 0]
    for s in range(symbols - 2, -1, -1):
        back = filtered_cov[s] @ step.T @ np.linalg.inv(predicted_cov[s + 1])
        states[s] = filtered[s] + back @ (states[s + 1] - predicted[s + 1])
        smoothed_cov = filtered_cov[s] + back @ (smoothed_cov - predicted_cov[s + 1]) @ back.T
        variances[s] = smoothed_cov[0, 0]
    return states, variances
