"""Estimation of a channel that changes during a burst.

The channel at symbol t and carrier k is a sum over modes m of the carriers and functions i of time,
H(t, k) = sum_mi F(k, m) U(t, i) g(m, i), with independent Gaussian g. F comes from the delay profile, U from a flat
Doppler spectrum of a given width: its Karhunen-Loeve functions are Slepian's sequences (T. Zemen and
C. F. Mecklenbraeuker, "Time-variant channel estimation using discrete prolate spheroidal sequences", IEEE Trans.
Signal Processing 2005, section III). Given the noise, g follows by linear regression, and the evidence of the model
chooses the Doppler width. Long bursts are cut into overlapping windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.machine import compiled
from crlsc_phy.phy.linear import invert

__all__ = ["FadingChannel", "Observations", "changes", "estimate_fading", "project"]

# Half widths of the Doppler spectrum that are tried, in cycles/symbol.
_WIDTHS = (1e-4, 1e-3, 3e-3, 7e-3, 0.014, 0.028)
_WINDOW, _CONTEXT = 64, 16
# Time functions that carry less than this part of the energy are left out: 50 dB below the channel.
_TIME_FLOOR = 1e-5
# Standard deviations by which noise alone may seem to change the channel.
_EVIDENT = 4.0


@dataclass(frozen=True)
class Observations:
    """Observations of the channel: at each time, sums over the carriers with known values.

    Attributes:
        times: In symbols, rising, float64 [times].
        matched: F^H z with z the received over the known values, complex128 [times, modes].
        gram: F^H F over the same carriers, complex128 [times, modes, modes].
        energy: Sum of |z|^2 over all.
        count: Values in all.
    """

    times: NDArray[np.float64]
    matched: NDArray[np.complex128]
    gram: NDArray[np.complex128]
    energy: float
    count: int


@dataclass(frozen=True)
class FadingChannel:
    """Estimate of a channel that changes.

    Attributes:
        modes: Weight of each mode at each time, complex128 [times, modes], to be multiplied by F^T.
        error: Variance of the estimate's error, mean over carriers, float64 [times].
        noise: Variance of the noise on a carrier.
        frequency: Mean rotation of the channel [rad/symbol]; it is in ``modes``.
        width: Half width of the Doppler spectrum chosen [cycles/symbol].
    """

    modes: NDArray[np.complex128]
    error: NDArray[np.float64]
    noise: float
    frequency: float
    width: float


def changes(residual: NDArray[np.complex128], gram: NDArray[np.complex128], noise: float) -> bool:
    """Return True if the residual of a standing channel is more alike from symbol to symbol than noise would be.

    Args:
        residual: F^H times the residual, complex128 [symbols, modes].
        gram: F^H F over the same carriers, complex128 [symbols, modes, modes].
        noise: Variance of the noise on a carrier.
    """
    product = float(np.sum(residual[:-1].conj() * residual[1:]).real)
    spread = noise * float(np.sqrt(np.sum(gram[:-1].conj() * gram[1:]).real / 2))
    return product > _EVIDENT * spread


def project(
    modes: NDArray[np.complex128], expected: NDArray[np.complex64], values: NDArray[np.complex64]
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Project each symbol on the modes.

    Args:
        modes: F, complex128 [carriers, modes].
        expected: Values sent, zero where they are not known, complex64 [symbols, carriers].
        values: Received values, complex64 [symbols, carriers].

    Returns:
        F^H F over the known carriers, complex128 [symbols, modes, modes], and F^H z, complex128 [symbols, modes].
    """
    gram: NDArray[np.complex128]
    matched: NDArray[np.complex128]
    gram, matched = _project(np.ascontiguousarray(modes), expected, values)
    return gram, matched


@compiled(nogil=True)
def _project(
    modes: NDArray[np.complex128], expected: NDArray[np.complex64], values: NDArray[np.complex64]
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    symbols, carriers = values.shape
    count = modes.shape[1]
    gram = np.zeros((symbols, count, count), np.complex128)
    matched = np.zeros((symbols, count), np.complex128)
    for s in range(symbols):
        for k in range(carriers):
            weight = abs(expected[s, k]) ** 2
            # Most carriers hold data: a product of whole matrices would mostly add zeros.
            if weight == 0:
                continue
            value = values[s, k] * np.conj(expected[s, k])
            for m in range(count):
                matched[s, m] += np.conj(modes[k, m]) * value
                scaled = weight * np.conj(modes[k, m])
                for n in range(count):
                    gram[s, m, n] += scaled * modes[k, n]
    return gram, matched


def estimate_fading(seen: Observations, energies: NDArray[np.float64], noise: float, carriers: int) -> FadingChannel:
    """Estimate channel, noise and Doppler width.

    Args:
        seen: At least two times.
        energies: Squared norms of the columns of F, float64 [modes].
        noise: First guess of the variance of the noise on a carrier.
        carriers: Occupied carriers, over which errors are averaged.
    """
    # The widest spectrum first. It gives the mean rotation, without which all spectra lie around zero.
    wide = _fit(seen, energies, noise, _WIDTHS[-1], carriers)
    steps = np.sum(wide.modes[:-1].conj() * wide.modes[1:] * energies, axis=1)
    frequency = float(np.angle(np.sum(steps[np.diff(seen.times) < 1.5])))
    turn = np.exp(1j * frequency * seen.times)[:, None]
    still = Observations(seen.times, seen.matched * turn.conj(), seen.gram, seen.energy, seen.count)
    # The energy of a mode was estimated from the training alone; the whole burst tells it better.
    scale = np.sqrt(np.mean(np.abs(wide.modes) ** 2, axis=0) + 0.01)
    still = Observations(
        still.times,
        still.matched * scale,
        still.gram * scale[:, None] * scale,
        still.energy,
        still.count,
    )
    scaled = energies * scale**2
    noise = wide.noise
    fits = [_fit(still, scaled, noise, width, carriers) for width in _WIDTHS]
    best = max(fits, key=lambda fit: fit.evidence)
    best = _fit(still, scaled, best.noise, best.width, carriers)
    return FadingChannel(best.modes * scale * turn, best.error, best.noise, frequency, best.width)


@dataclass(frozen=True)
class _Fit:
    modes: NDArray[np.complex128]
    error: NDArray[np.float64]
    noise: float
    width: float
    evidence: float


def _fit(seen: Observations, energies: NDArray[np.float64], noise: float, width: float, carriers: int) -> _Fit:
    times = len(seen.times)
    modes = np.empty((times, len(energies)), np.complex128)
    error = np.empty(times)
    evidence = freedom = 0.0
    for begin in range(0, times, _WINDOW):
        # A last window of a few symbols would tell little: it joins the one before.
        end = begin + _WINDOW if times - begin >= 2 * _WINDOW else times
        low, high = max(begin - _CONTEXT, 0), min(end + _CONTEXT, times)
        functions = _time_functions(tuple(np.round(seen.times[low:high] - seen.times[low], 3)), width)
        taken = slice(begin - low, end - low)
        part = _regress(seen.matched[low:high], seen.gram[low:high], functions, noise)
        modes[begin:end] = (functions @ part.weights.T)[taken]
        squares = np.einsum("ti,tj,mij->tm", functions, functions, part.covariance, optimize=True)
        error[begin:end] = (squares @ energies)[taken] / carriers
        share = (end - begin) / (high - low)
        evidence += part.evidence * share
        freedom += part.freedom * share
        if end == times:
            break
    left = seen.energy - 2 * float(np.sum(modes.conj() * seen.matched).real)
    left += float(np.einsum("tm,tmn,tn->", modes.conj(), seen.gram, modes, optimize=True).real)
    residual = max(left, 0.0) / max(seen.count - freedom, 1.0)
    return _Fit(modes, error, max(residual, 1e-30), width, evidence)


@dataclass(frozen=True)
class _Regression:
    """Weights [modes, functions], their covariance in each mode [modes, functions, functions], evidence and freedom."""

    weights: NDArray[np.complex128]
    covariance: NDArray[np.float64]
    evidence: float
    freedom: float


def _regress(
    matched: NDArray[np.complex128], gram: NDArray[np.complex128], functions: NDArray[np.float64], noise: float
) -> _Regression:
    times, modes = matched.shape
    count = functions.shape[1]
    pairs = (functions[:, :, None] * functions[:, None, :]).reshape(times, -1)
    # The functions are real: with complex numbers as pairs of real ones the product takes half the work.
    normal = (pairs.T @ gram.reshape(times, -1).view(np.float64)).view(np.complex128)
    normal = normal.reshape(count, count, modes, modes).transpose(2, 0, 3, 1).reshape(modes * count, -1)
    precision = normal / noise + np.eye(modes * count)
    target = (matched.T @ functions).ravel() / noise
    covariance, logarithm = invert(precision)
    weights = covariance @ target
    evidence = float(np.vdot(target, weights).real) - logarithm
    blocks = covariance.reshape(modes, count, modes, count)
    own = np.stack([blocks[m, :, m, :].real for m in range(modes)])
    freedom = modes * count - float(np.trace(covariance).real)
    return _Regression(weights.reshape(modes, count), own, evidence, freedom)


@lru_cache(maxsize=256)
def _time_functions(times: tuple[float, ...], width: float) -> NDArray[np.float64]:
    """Return functions [times, functions] whose sum with random weights of unit variance has a flat spectrum."""
    distance = np.subtract.outer(times, times)
    energy, vectors = np.linalg.eigh(np.sinc(2 * width * distance))
    kept = energy > _TIME_FLOOR * len(times)
    functions = vectors[:, kept][:, ::-1] * np.sqrt(energy[kept][::-1])
    functions.flags.writeable = False
    return np.asarray(functions)
