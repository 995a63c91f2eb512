"""Estimation of a channel that stands still, over the cyclic prefix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.phy.linear import invert
from crlsc_phy.phy.ofdm import Ofdm

__all__ = ["ChannelEstimate", "ChannelEstimator"]

_STEPS = 5
# A tap's prior never falls below this part of the mean: a tap ruled out by mistake may come back.
_PRIOR_FLOOR = 1e-4
# A mode this far below what the noise leaves of the strongest cannot be told from nothing.
_MODE_FLOOR = 0.02


@dataclass(frozen=True)
class ChannelEstimate:
    """A smoothed channel.

    Attributes:
        channel: complex64 [occupied].
        freedom: How many taps' worth of noise is in it.
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
        numerology = ofdm.numerology
        delays = np.arange(numerology.cp_length + 1)
        self._basis = np.exp(-2j * np.pi * np.outer(ofdm.carriers, delays) / numerology.fft_size)

    def smooth(self, raw: NDArray[np.complex64], noise: NDArray[np.float64]) -> ChannelEstimate:
        """Minimum mean-square error estimate of the channel.

        Args:
            raw: Least-squares estimate on every occupied carrier, complex64 [occupied].
            noise: Variance of the error of each, float64 [occupied].
        """
        basis = self._basis
        power = max(float(np.mean(np.abs(raw) ** 2) - np.mean(noise)), 0.01 * float(np.mean(noise)), 1e-30)
        weight = 1 / np.maximum(noise, 1e-6 * power)
        matched = basis.conj().T @ (raw * weight)
        gram = (basis.conj().T * weight) @ basis
        taps = matched
        prior = np.full(len(matched), power / len(matched))
        free = prior
        for _ in range(_STEPS):
            covariance, _ = invert(gram + np.diag(1 / prior))
            taps = covariance @ matched
            free = 1 - covariance.diagonal().real / prior
            prior = np.maximum(np.abs(taps) ** 2 / np.maximum(free, 1e-3), _PRIOR_FLOOR * power / len(matched))
        return ChannelEstimate(np.asarray(basis @ taps, np.complex64), float(np.sum(free)), prior)

    def modes(self, prior: NDArray[np.float64], noise: float) -> NDArray[np.complex128]:
        """The principal shapes of channels with independent taps (Karhunen-Loeve transform over the carriers).

        Args:
            prior: Variance of each tap, float64 [taps].
            noise: Variance of the noise on a carrier, after what averaging there is; shapes far below are left out.

        Returns:
            complex128 [occupied, modes], orthogonal columns, the squared norm of each the energy it carries.
        """
        shaped = self._basis * np.sqrt(prior)
        energy, vectors = np.linalg.eigh(shaped.conj().T @ shaped)
        kept = energy > max(_MODE_FLOOR * noise, 1e-6 * float(energy[-1]))
        return np.asarray(shaped @ vectors[:, kept][:, ::-1])
