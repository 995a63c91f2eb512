"""Tracking of carrier phase and timing through a burst.

:func:`track` follows both where the channel stands still. Where it fades, :func:`steady_drift` measures the drift of
timing, and the rotation counts as a part of the channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.machine import compiled
from crlsc_phy.phy.linear import invert_parts

__all__ = ["steady_drift", "track", "vertex"]

# Variance of the random walk in a symbol of phase [rad^2], frequency [(rad/symbol)^2], slope [(rad/carrier)^2] and its
# drift. They allow for an oscillator's phase noise and for Doppler up to a few per mille of the symbol rate.
_WALK = np.array([1e-5, 1e-9, 1e-11, 1e-15])


def track(
    rotation: NDArray[np.complex64],
    gain: NDArray[np.float32],
    carriers: NDArray[np.int64],
    noise: float,
    spread: tuple[float, float],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Follow common phase and phase slope over the symbols of a burst.

    A Kalman filter with the state (phase, phase a symbol, slope, slope a symbol), linearised at each known carrier, and
    the Rauch-Tung-Striebel smoother back over it.

    Args:
        rotation: Received values times the conjugate of the expected ones, complex64 [symbols, carriers].
        gain: Power of the expected values, float32 [symbols, carriers]; zero where nothing is known.
        carriers: Indices of the carriers, int64 [carriers].
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
    _smooth(predicted, predicted_cov, filtered, filtered_cov)
    return filtered[:, 0], filtered[:, 2], filtered_cov[:, 0, 0]


def steady_drift(pilots: NDArray[np.complex64], spacing: int, fft_size: int, most: float) -> float:
    """Return the drift of timing of a burst over a channel that fades.

    The phase from one pilot to the next follows the mean delay of the paths. The delay wanders as they fade, but only a
    clock error moves it steadily: the drift is the peak of the spectrum over time of products of neighbouring pilots.

    Args:
        pilots: Received over sent pilots, complex64 [symbols, pilots], in rising order of carriers.
        spacing: Carriers from one pilot to the next.
        fft_size: Carriers of the FFT.
        most: Largest drift to look for, in samples/symbol.

    Returns:
        Drift in samples/symbol, positive if symbols come later than they nominally do.
    """
    steps = np.sum(pilots[:, 1:] * pilots[:, :-1].conj(), axis=1)
    radians = 2 * np.pi * spacing / fft_size
    # Three points in the width of a peak.
    count = 2 * int(np.ceil(1.5 * most * radians * len(steps) / np.pi)) + 5
    drifts = np.linspace(-most, most, count)
    height = np.abs(np.exp(1j * radians * np.outer(drifts, np.arange(len(steps)))) @ steps)
    peak = int(np.argmax(height))
    return float(drifts[peak] + vertex(height, peak) * (drifts[1] - drifts[0]))


def vertex(values: NDArray[np.floating[Any]], index: int) -> float:
    """Return the offset of a parabola's vertex from its highest sample, in samples; 0 at a border."""
    if not 0 < index < len(values) - 1:
        return 0.0
    left, middle, right = (float(v) for v in values[index - 1 : index + 2])
    curvature = left - 2 * middle + right
    return 0.5 * (left - right) / curvature if curvature < 0 else 0.0


@compiled(nogil=True)
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
    """Run the filter forward, from the first prediction. Plain loops, since 4 x 4 is too small for BLAS."""
    symbols, count = rotation.shape
    gains_on_state = np.empty(4)
    for s in range(symbols):
        x, p = filtered[s], filtered_cov[s]
        for i in range(4):
            x[i] = predicted[s, i]
            for j in range(4):
                p[i, j] = predicted_cov[s, i, j]
        for k in range(count):
            if gain[s, k] <= 0.0:
                continue
            turned = rotation[s, k] * np.exp(-1j * (x[0] + carriers[k] * x[2]))
            residual = turned.imag / gain[s, k]
            for i in range(4):
                gains_on_state[i] = p[i, 0] + carriers[k] * p[i, 2]
            variance = gains_on_state[0] + carriers[k] * gains_on_state[2] + noise / (2 * gain[s, k])
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


@compiled(nogil=True)
def _smooth(
    predicted: NDArray[np.float64],
    predicted_cov: NDArray[np.float64],
    filtered: NDArray[np.float64],
    filtered_cov: NDArray[np.float64],
) -> None:
    """Run the smoother backward; filtered states and covariances become smoothed ones."""
    back, half, nothing = np.empty((4, 4)), np.empty((4, 4)), np.zeros((4, 4))
    for s in range(len(filtered) - 2, -1, -1):
        inverse, _, _ = invert_parts(predicted_cov[s + 1], nothing)
        for i in range(4):
            for j in range(4):
                back[i, j] = 0.0
                for k in range(4):
                    # Covariance times the transposed step: column k gains column k + 1 where the step couples them.
                    coupled = filtered_cov[s, i, k] + (filtered_cov[s, i, k + 1] if k % 2 == 0 else 0.0)
                    back[i, j] += coupled * inverse[k, j]
        for i in range(4):
            for j in range(4):
                filtered[s, i] += back[i, j] * (filtered[s + 1, j] - predicted[s + 1, j])
                half[i, j] = 0.0
                for k in range(4):
                    half[i, j] += back[i, k] * (filtered_cov[s + 1, k, j] - predicted_cov[s + 1, k, j])
        for i in range(4):
            for j in range(4):
                for k in range(4):
                    filtered_cov[s, i, j] += half[i, k] * back[j, k]
