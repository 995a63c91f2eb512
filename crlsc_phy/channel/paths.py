"""Paths of a radio channel as sums of waves, and what they make of a sampled signal.

    h(l, t) = sum over k of a_k exp(j w_k t) sinc(l - fs tau_k)

Each wave k has an amplitude a_k for every pair of antennas, a Doppler shift w_k and a delay tau_k. All models of the
catalogue take this form, so that time is one variable without end: nothing is drawn anew and no phase breaks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import ChannelError

__all__ = ["LIGHT_SPEED", "Paths", "Pulse", "pulse"]

LIGHT_SPEED = 299_792_458.0
_MOST_TAPS = 4096
_REACH = 6
"""Samples of the sinc on either side of a path, as in Sionna's ``time_lag_discrete_time_channel``."""


@dataclass(frozen=True)
class Paths:
    """Waves that add up to a channel.

    Attributes:
        amplitudes: complex128 [rx, tx, K]; the squares of a pair of antennas add up to its mean power gain.
        rates: Doppler shift of each at 1 m/s, in rad/s, float64 [K].
        delays: float64 [K], in seconds, or in delay spreads if ``scalable``.
        scalable: Whether the delays are multiples of the delay spread.
    """

    amplitudes: NDArray[np.complex128]
    rates: NDArray[np.float64]
    delays: NDArray[np.float64]
    scalable: bool = False

    @property
    def antennas(self) -> tuple[int, int]:
        """Receive and transmit antennas."""
        rx, tx, _ = self.amplitudes.shape
        return rx, tx


@dataclass(frozen=True)
class Pulse:
    """How delays show in samples.

    Attributes:
        shape: Value of each wave at each tap, float64 [K, L].
        latency: Samples by which the first path is late: taps before it that the sinc needs.
    """

    shape: NDArray[np.float64]
    latency: int


def pulse(delays: NDArray[np.float64], sample_rate: float) -> Pulse:
    """The taps that waves of ``delays`` [s] fall on.

    Delays of whole samples take one tap each and cost no latency.

    Raises:
        ChannelError: If that takes more than 4096 taps.
    """
    places = delays * sample_rate
    if places.max(initial=0.0) > _MOST_TAPS - 2 * _REACH:
        raise ChannelError(
            f"a path is {delays.max() * 1e6:.3g} us late; at {sample_rate:g} samples/s that is beyond {_MOST_TAPS} taps"
        )
    whole = np.rint(places)
    if np.abs(places - whole).max(initial=0.0) < 1e-6:
        taps = np.arange(int(whole.max(initial=0.0)) + 1)
        return Pulse((taps == whole[:, None]).astype(np.float64), 0)
    taps = np.arange(-_REACH, int(np.ceil(places.max())) + _REACH + 1)
    return Pulse(np.sinc(taps - places[:, None]), _REACH)
