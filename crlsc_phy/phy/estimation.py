"""Estimation of a channel that stands still, over the cyclic prefix.

A Fourier transform connects carriers and taps. Many taps are solved for in windows of bounded size, so that the cost
grows with the cyclic prefix no faster than that of the burst's FFTs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from crlsc_phy.phy.linear import invert
from crlsc_phy.phy.ofdm import Ofdm

__all__ = ["ChannelEstimate", "ChannelEstimator"]

_STEPS = 5
# A tap's prior never falls below this part of the mean: a tap ruled out by mistake may come back.
_PRIOR_FLOOR = 1e-4
# A mode this far below what the noise leaves of the strongest cannot be told from nothing.
_MODE_FLOOR = 0.02
# Most taps that a matrix couples: all taps of the presets. Longer prefixes are solved in windows of so many taps,
# half of them new; modes are made of the strongest.
_MOST_TAPS = 65
# The windows together solve for all taps by conjugate gradients, until the error left is this part of what the noise
# makes of each tap.
_TOLERANCE = 1e-3
_MOST_ROUNDS = 200

_Linear = Callable[[NDArray[np.complex128]], NDArray[np.complex128]]


@dataclass(frozen=True)
class ChannelEstimate:
    """A smoothed channel.

    Attributes:
        channel: complex64 [occupied].
        freedom: Number of taps whose noise is in the estimate.
        prior: Variance learned for each tap, float64 [taps].
    """

    channel: NDArray[np.complex64]
    freedom: float
    prior: NDArray[np.float64]


class ChannelEstimator:
    """Smooths a channel estimate: its impulse response must fit into the cyclic prefix.

    The taps have independent Gaussian priors whose variances are learned from the estimate itself by maximum evidence
    (M. E. Tipping, "Sparse Bayesian learning and the relevance vector machine", JMLR 2001, eq. 16), so that empty
    taps stop adding noise.

    Args:
        ofdm: Carriers and the cyclic prefix.
    """

    def __init__(self, ofdm: Ofdm) -> None:
        self._size = ofdm.numerology.fft_size
        self._taps = ofdm.numerology.cp_length + 1
        self._carriers = ofdm.carriers
        self._windows = _windows(self._taps)

    def smooth(self, raw: NDArray[np.complex64], noise: NDArray[np.float64]) -> ChannelEstimate:
        """Return the minimum mean-square error estimate of the channel.

        Args:
            raw: Least-squares estimate on every occupied carrier, complex64 [occupied].
            noise: Variance of the error of each, float64 [occupied].
        """
        power = max(float(np.mean(np.abs(raw) ** 2) - np.mean(noise)), 0.01 * float(np.mean(noise)), 1e-30)
        weight = 1 / np.maximum(noise, 1e-6 * power)
        matched = self._delays(raw * weight)[: self._taps]
        # The normal equations' matrix depends on the distance of two taps alone.
        gram = self._delays(weight)
        prior = np.full(len(matched), power / len(matched))
        taps, free = np.zeros_like(matched), prior
        for _ in range(_STEPS):
            taps, variance = self._solve(gram, matched, prior, taps)
            free = 1 - variance / prior
            prior = np.maximum(np.abs(taps) ** 2 / np.maximum(free, 1e-3), _PRIOR_FLOOR * power / len(matched))
        channel = fft.fft(taps, self._size)[self._carriers % self._size]
        return ChannelEstimate(np.asarray(channel, np.complex64), float(np.sum(free)), prior)

    def modes(self, prior: NDArray[np.float64], noise: float) -> NDArray[np.complex128]:
        """Return the principal shapes of channels with independent taps (Karhunen-Loeve transform over the carriers).

        Args:
            prior: Variance of each tap, float64 [taps]. Of a long prefix the strongest taps count alone.
            noise: Variance of the noise on a carrier, after what averaging there is; shapes far below are left out.

        Returns:
            complex128 [occupied, modes], orthogonal columns, the squared norm of each the energy it carries.
        """
        delays = np.sort(np.argsort(-prior, kind="stable")[:_MOST_TAPS])
        shaped = np.exp(-2j * np.pi * np.outer(self._carriers, delays) / self._size) * np.sqrt(prior[delays])
        energy, vectors = np.linalg.eigh(shaped.conj().T @ shaped)
        kept = energy > max(_MODE_FLOOR * noise, 1e-6 * float(energy[-1]))
        return np.asarray(shaped @ vectors[:, kept][:, ::-1])

    def beyond(self, modes: NDArray[np.complex128], estimate: ChannelEstimate) -> NDArray[np.complex64]:
        """Return the part of an estimate in the taps that its modes leave out, complex64 [occupied]."""
        if self._taps <= _MOST_TAPS:
            return np.zeros_like(estimate.channel)
        inside = modes @ ((modes.conj().T @ estimate.channel) / np.sum(np.abs(modes) ** 2, axis=0))
        return np.asarray(estimate.channel - inside, np.complex64)

    def _delays(self, values: NDArray[np.complex128] | NDArray[np.float64]) -> NDArray[np.complex128]:
        """Sum values on carriers at each delay, complex128 [fft_size]; a negative delay counts from the end."""
        spectrum = np.zeros(self._size, np.complex128)
        spectrum[self._carriers % self._size] = values
        return np.asarray(fft.ifft(spectrum, norm="forward"))

    def _solve(
        self,
        gram: NDArray[np.complex128],
        matched: NDArray[np.complex128],
        prior: NDArray[np.float64],
        start: NDArray[np.complex128],
    ) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
        """Solve for the taps, and find the variance of each that is left.

        Where one window does not hold all taps: conjugate gradients, preconditioned by the inverses of the windows.
        A variance is that given the taps outside the window, the largest of several windows: a bound from below.
        """
        size = self._windows.shape[1]
        near = gram[np.subtract.outer(np.arange(size), np.arange(size))]
        inverses = np.stack([invert(near + np.diag(1 / prior[window]))[0] for window in self._windows])
        variance = np.zeros(len(prior))
        np.maximum.at(variance, self._windows, np.diagonal(inverses, axis1=1, axis2=2).real)
        if len(inverses) == 1:
            return inverses[0] @ matched, variance
        share = 1 / np.sqrt(np.bincount(self._windows.ravel()))
        spectrum = fft.fft(gram)

        def apply(taps: NDArray[np.complex128]) -> NDArray[np.complex128]:
            around = fft.ifft(spectrum * fft.fft(taps, self._size))
            return np.asarray(around[: len(taps)] + taps / prior)

        def precondition(left: NDArray[np.complex128]) -> NDArray[np.complex128]:
            parts = inverses @ (share * left)[self._windows][:, :, None]
            total = np.zeros_like(left)
            np.add.at(total, self._windows, parts[:, :, 0])
            return share * total

        return _conjugate_gradients(apply, precondition, matched, start), variance


def _windows(taps: int) -> NDArray[np.int64]:
    """Return overlapping runs of taps that hold all of them, int64 [windows, taps of each]."""
    size = min(taps, _MOST_TAPS)
    starts = np.unique(np.minimum(np.arange(0, taps, (size + 1) // 2), taps - size))
    return np.asarray(starts[:, None] + np.arange(size))


def _conjugate_gradients(
    apply: _Linear, precondition: _Linear, target: NDArray[np.complex128], start: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """Solve ``apply(x) = target`` for a Hermitian positive definite ``apply``.

    Args:
        apply: The matrix, as a function of a vector complex128 [n].
        precondition: An approximation of its inverse, likewise.
        target: complex128 [n].
        start: First guess, complex128 [n].
    """
    solution, left = start, target - apply(start)
    direction = np.zeros_like(target)
    before = np.inf
    for _ in range(_MOST_ROUNDS):
        better = precondition(left)
        height = float(np.vdot(left, better).real)
        if height <= _TOLERANCE * len(target):
            break
        direction = better + height / before * direction
        image = apply(direction)
        step = height / float(np.vdot(direction, image).real)
        solution, left = solution + step * direction, left - step * image
        before = height
    return solution
