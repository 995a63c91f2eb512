"""Paths of a radio channel as sums of waves, and their taps at a sample rate.

    h(l, t) = sum over k of a_k exp(j w_k t) sinc(l - fs tau_k)

Each wave k has an amplitude a_k for every pair of antennas, a Doppler shift w_k and a delay tau_k. All models of the
catalogue but the block-fading ones take this form. Time is one variable without end, so that no phase breaks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import ChannelError

__all__ = ["LIGHT_SPEED", "Paths", "pulse"]

LIGHT_SPEED = 299_792_458.0
_MOST_TAPS = 4096
_REACH = 6
"""Samples of the sinc to either side of a path, as in Sionna's ``time_lag_discrete_time_channel``."""


@dataclass(frozen=True)
class Paths:
    """Waves that add up to a channel.

    Attributes:
        amplitudes: Complex amplitudes, complex128 [rx, tx, K]; the squared magnitudes of a pair of antennas add up to
            its mean power gain.
        rates: Doppler shifts at a speed of 1 m/s in rad/s, float64 [K].
        delays: Delays in seconds, or in delay spreads if ``scalable``, float64 [K].
        scalable: Whether the delays are multiples of the delay spread.
    """

    amplitudes: NDArray[np.complex128]
    rates: NDArray[np.float64]
    delays: NDArray[np.float64]
    scalable: bool = False

    @property
    def antennas(self) -> tuple[int, int]:
        """Number of receive and of transmit antennas."""
        rx, tx, _ = self.amplitudes.shape
        return rx, tx


def pulse(delays: NDArray[np.float64], sample_rate: float) -> tuple[NDArray[np.float64], int]:
    """Return the values of waves at the taps of a filter, float64 [K, L], and the latency in samples.

    The first path is late by the taps before it that the sinc needs. Delays of whole samples take one tap each and cost
    no latency.

    Args:
        delays: Delays in seconds, float64 [K].
        sample_rate: Sample rate in samples/s.

    Raises:
        ChannelError: If the last delay is beyond 4096 taps.
    """
    places = delays * sample_rate
    if places.max(initial=0.0) > _MOST_TAPS - 2 * _REACH:
        raise ChannelError(
            f"a path has a delay of {delays.max():.3g} s; at {sample_rate:g} samples/s that is beyond {_MOST_TAPS} taps"
        )
    whole = np.rint(places)
    if np.abs(places - whole).max(initial=0.0) < 1e-6:
        taps = np.arange(int(whole.max(initial=0.0)) + 1)
        return (taps == whole[:, None]).astype(np.float64), 0
    taps = np.arange(-_REACH, int(np.ceil(places.max())) + _REACH + 1)
    return np.sinc(taps - places[:, None]), _REACH
