"""Taps of a channel over time, at knots ``hop`` samples apart.

Knots are computed in groups of 64. The group of a knot follows from its position alone, so that the taps do not depend
on how a stream is cut.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.channel.cir import Cir
from crlsc_phy.channel.models import find_model, paths_of
from crlsc_phy.channel.paths import Paths, pulse
from crlsc_phy.channel.settings import ChannelSettings
from crlsc_phy.errors import ChannelError

__all__ = ["GROUP", "Process", "Taps", "WaveProcess", "make_process"]

GROUP = 64
"""Knots that are computed at a time."""
# Largest turn of a path between knots in radians; the error of linear interpolation then is 60 dB below the channel.
_TURN = 0.1
_MOST_HOP = 4096
_EVEN = 1e-6
"""Samples by which times may be off an even spacing."""
_STEPS = 1e-6, 2.0**40
"""Samples from one time of a file to the next, at least and at most."""

Taps = NDArray[np.complex64]
"""complex64 [knots, rx, tx, L]."""


class Process(Protocol):
    """Channel over time.

    Attributes:
        hop: Samples from one knot to the next.
        latency: Samples by which the first path is late.
        steps: Whether the taps stand still between knots and then jump, instead of moving along straight lines.
        delays: Delays of the paths in seconds, float64 [P].
    """

    hop: int
    latency: int
    steps: bool
    delays: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of receive antennas, transmit antennas and taps."""
        ...

    def group(self, number: int) -> Taps:
        """Return the taps at the knots of a group and at the first of the next, complex64 [GROUP + 1, rx, tx, L]."""
        ...

    def gains(self, samples: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the gains of the paths, complex128 [T, rx, tx, P], at times in samples since the process began."""
        ...


class WaveProcess:
    """Paths that are sums of waves.

    Args:
        paths: The waves.
        settings: Gives sample rate, speed and delay spread.
        phases: Phases of the waves when the process begins, on top of those of their amplitudes, in radians, float64
            [K]; None for 0.
    """

    steps = False

    def __init__(self, paths: Paths, settings: ChannelSettings, phases: NDArray[np.float64] | None = None) -> None:
        self.paths = paths
        self._phases = np.zeros(len(paths.rates)) if phases is None else phases
        # Radians a sample.
        self._rates = paths.rates * settings.metres_per_second / settings.sample_rate
        all_delays = paths.delays * (settings.delay_spread if paths.scalable else 1.0)
        self.delays, path_of = np.unique(all_delays, return_inverse=True)
        # Marks the waves of each path, [K, P].
        self._belongs = (path_of[:, None] == np.arange(len(self.delays))).astype(np.float64)
        shape, self.latency = pulse(all_delays, settings.sample_rate)
        fastest = float(np.abs(self._rates).max(initial=0.0))
        self.hop = _MOST_HOP if not fastest else int(2 ** np.clip(np.floor(np.log2(_TURN / fastest)), 0, 12))
        self._taps = shape.shape[1]
        # All waves to all taps of all pairs of antennas in one product.
        spread = paths.amplitudes.transpose(2, 0, 1)[..., None] * shape[:, None, None, :]
        self._spread = spread.reshape(len(self._rates), -1).astype(np.complex64)
        self._standing = None if fastest else self._at(0)

    @property
    def shape(self) -> tuple[int, int, int]:
        return *self.paths.antennas, self._taps

    def group(self, number: int) -> Taps:
        return self._at(number) if self._standing is None else self._standing

    @cached_property
    def _turns(self) -> NDArray[np.complex128]:
        """Turns of the waves from the first knot of a group on, complex128 [GROUP + 1, K]."""
        return np.asarray(np.exp(1j * np.outer(np.arange(GROUP + 1) * self.hop, self._rates)))

    def _at(self, number: int) -> Taps:
        start = np.exp(1j * self.phases_at(number * GROUP * self.hop))
        waves = (self._turns * start).astype(np.complex64)
        return np.asarray((waves @ self._spread).reshape(GROUP + 1, *self.shape))

    def phases_at(self, samples: float) -> NDArray[np.float64]:
        """Return the phases of the waves in radians, float64 [K], so many samples after the process began."""
        return np.asarray(np.mod(self._phases + self._rates * samples, 2 * np.pi))

    def gains(self, samples: NDArray[np.float64]) -> NDArray[np.complex128]:
        each = self._waves(samples)[:, None, None, :] * self.paths.amplitudes
        return np.asarray(each @ self._belongs, np.complex128)

    def _waves(self, samples: NDArray[np.float64]) -> NDArray[np.complex128]:
        """The waves at unit amplitude, complex128 [T, K]."""
        step = float(np.ptp(samples)) / (len(samples) - 1) if len(samples) > GROUP else 0.0
        if not step or np.abs(samples - samples[0] - step * np.arange(len(samples))).max() > _EVEN:
            return np.asarray(np.exp(1j * (self._phases + np.outer(samples, self._rates))))
        # At even spaces products of few exponentials do, which takes a tenth of the time.
        coarse = np.exp(1j * (self._phases + np.outer(samples[::GROUP], self._rates)))
        fine = np.exp(1j * np.outer(step * np.arange(GROUP), self._rates))
        return np.asarray((coarse[:, None] * fine).reshape(-1, len(self._rates))[: len(samples)])


class BlockProcess:
    """Channel that stands still for a block and is then drawn anew.

    Args:
        settings: Gives the model, one of those with ``-block``, the length of a block, antennas and seed.
    """

    steps = True
    latency = 0

    def __init__(self, settings: ChannelSettings) -> None:
        self._settings, self.hop = settings, settings.block
        self.delays = np.zeros(1)
        ratio = settings.rice_ratio
        self._direct, self._scattered = np.sqrt(ratio / (1 + ratio)), np.sqrt(1 / (1 + ratio))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._settings.rx, self._settings.tx, 1

    def group(self, number: int) -> Taps:
        return np.concatenate((self._drawn(number), self._drawn(number + 1)[:1]))

    def _drawn(self, number: int) -> Taps:
        rng = np.random.default_rng([self._settings.seed, 1, number])
        pairs = (GROUP, self._settings.rx, self._settings.tx, 1)
        scattered = rng.standard_normal((*pairs, 2)).view(np.complex128)[..., 0] / np.sqrt(2)
        # The phase of the direct path is the same for all antennas, and another in each block.
        direct = np.exp(1j * rng.uniform(-np.pi, np.pi, (GROUP, 1, 1, 1)))
        return np.asarray(self._direct * direct + self._scattered * scattered, np.complex64)

    def gains(self, samples: NDArray[np.float64]) -> NDArray[np.complex128]:
        knots = (samples // self.hop).astype(np.int64)
        return np.asarray(np.stack([self.group(int(k // GROUP))[k % GROUP] for k in knots]), np.complex128)


class ReplayProcess:
    """Paths that a file of channel impulse responses gives.

    Args:
        cir: Content of the file.
        settings: Sample rate, antennas, and what follows the end of the file.

    Raises:
        ChannelError: If file and settings have other numbers of antennas, or the file's time step is too far from a
            sample.
    """

    def __init__(self, cir: Cir, settings: ChannelSettings) -> None:
        if cir.gains.shape[1:3] != (settings.rx, settings.tx):
            raise ChannelError(
                f"{settings.cir}: has {cir.gains.shape[1]} receive and {cir.gains.shape[2]} transmit antennas; "
                f"rx and tx say {settings.rx} and {settings.tx}"
            )
        self._cir, self._end, self.steps = cir, settings.cir_end, cir.steps
        self._step = cir.time_step * settings.sample_rate
        if not _STEPS[0] <= self._step <= _STEPS[1]:
            raise ChannelError(
                f"{settings.cir}: has a time step of {self._step:g} samples; {_STEPS[0]:g} to {_STEPS[1]:g} are allowed"
            )
        whole = round(self._step)
        if len(cir.gains) == 1:
            self.hop = _MOST_HOP
        elif whole >= 1 and abs(self._step - whole) < 1e-6 * self._step:
            # A file that was recorded here has its times at whole samples: they are the knots.
            self.hop, self._step = whole, float(whole)
        else:
            # Jumps are exact to the sample, and straight lines as exact as the file's own.
            self.hop = 1 if cir.steps else max(1, int(self._step))
        self._shape, self.latency = pulse(cir.delays, settings.sample_rate)
        self.delays = cir.delays

    @property
    def shape(self) -> tuple[int, int, int]:
        _, rx, tx, _ = self._cir.gains.shape
        return rx, tx, self._shape.shape[1]

    def group(self, number: int) -> Taps:
        samples = (number * GROUP + np.arange(GROUP + 1)) * float(self.hop)
        return np.asarray(self.gains(samples) @ self._shape, np.complex64)

    def gains(self, samples: NDArray[np.float64]) -> NDArray[np.complex128]:
        last = len(self._cir.gains) - 1
        places = np.floor(samples / self._step) if self.steps else samples / self._step
        if self._end == "hold" or not last:
            places = np.minimum(places, last)
        elif self._end == "mirror":
            places = last - np.abs(np.mod(places, 2 * last) - last)
        else:
            places = np.mod(places, last + 1)
        low = np.minimum(np.floor(places).astype(np.int64), last)
        # In a loop the last time is followed by the first.
        high = (low + 1) % (last + 1) if self._end == "loop" else np.minimum(low + 1, last)
        part = (places - low)[:, None, None, None]
        gains = self._cir.gains
        return np.asarray((1 - part) * gains[low] + part * gains[high], np.complex128)


def make_process(settings: ChannelSettings) -> Process:
    """Return the process of the model that the settings name.

    Raises:
        ChannelError: If the model is unknown, needs a library that is missing, or does not fit the settings.
    """
    find_model(settings.model)
    if settings.model == "replay":
        return ReplayProcess(Cir.load(settings.cir), settings)
    if settings.model.endswith("-block"):
        return BlockProcess(settings)
    return WaveProcess(paths_of(settings), settings)
