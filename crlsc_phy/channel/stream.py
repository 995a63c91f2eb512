"""Radio channel for an endless stream of samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crlsc_phy.channel.cir import Cir
from crlsc_phy.channel.fir import filter_moving
from crlsc_phy.channel.process import GROUP, Process, Taps, WaveProcess, make_process
from crlsc_phy.channel.radio import Clock, Oscillator, amplified, converted
from crlsc_phy.channel.settings import FIXED, ChannelSettings
from crlsc_phy.errors import ChannelError, brief
from crlsc_phy.machine import compiled

__all__ = ["StreamChannel"]

# Settings that the taps depend on.
_TAPS = (
    "model", "carrier_hz", "delay_spread", "speed", "doppler_hz", "rice_k_db", "block", "distance_m", "sight", "taps",
    "cir", "cir_end",
)  # fmt: skip
# Settings that change how the paths move, but not the paths.
_MOTION = ("speed", "doppler_hz", "delay_spread")
_MOST_SEGMENTS = 1000
_MOST_CHUNK = 1 << 16
_A_RECORD = 1024
"""Knots that are recorded at a time."""


@dataclass
class _Segment:
    """Process from a sample on, with its settings and the taps that the one before it ended with (``carry``)."""

    start: int
    process: Process
    settings: ChannelSettings
    carry: Taps | None = None

    def group(self, number: int) -> Taps:
        taps = self.process.group(number)
        if number or self.carry is None or self.process.steps:
            return taps
        # The first interval leads from the old taps to the new ones, so that nothing jumps.
        taps = taps.copy()
        taps[0] = 0
        length = min(taps.shape[3], self.carry.shape[2])
        taps[0, :, :, :length] = self.carry[:, :, :length]
        return taps


class StreamChannel:
    """Radio channel whose output is as long as its input and does not depend on how the stream is cut.

    Samples pass the sender's amplifier, the paths, the receiver's clock, the oscillators, noise, mixer and converter,
    in this order. The mean power gain between any two antennas is 1, except for the models ``static`` and ``replay``,
    whose gains are given.

    Args:
        model: Name of a channel model, a key of :data:`crlsc_phy.channel.MODELS`.
        snr_db: Es/N0 for a signal of unit mean power in the occupied band; None for no noise.
        settings: The other fields of :class:`ChannelSettings`.

    Raises:
        ChannelError: If model or setting is unknown, of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from crlsc_phy.channel import StreamChannel
        >>> channel = StreamChannel("static", taps=[0.5, 0.25j], sample_rate=1e6, seed=1)
        >>> channel(np.ones(3))
        array([0.5+0.j  , 0.5+0.25j, 0.5+0.25j], dtype=complex64)
        >>> channel.set(snr_db=20)
        >>> len(channel(np.ones(1000))), channel.position
        (1000, 1003)
    """

    def __init__(self, model: str = "awgn", snr_db: float | None = None, **settings: Any) -> None:
        self._settings = ChannelSettings().changed(model=model, snr_db=snr_db, **settings)
        self._position = 0
        self._segments = [_Segment(0, make_process(self._settings), self._settings)]
        self._waiting: Process | None = None
        self._group: tuple[int, Taps] | None = None
        self._history = np.zeros((2, self._settings.tx, 0), np.float32)
        self._oscillator = Oscillator(self._settings)
        self._clock = Clock(self._settings, self._settings.rx) if self._settings.sro_ppm is not None else None
        self._noise = [
            np.random.Generator(np.random.SFC64(np.random.SeedSequence([self._settings.seed, 3, antenna])))
            for antenna in range(self._settings.rx)
        ]

    @property
    def settings(self) -> ChannelSettings:
        """Settings for the next sample."""
        return self._settings

    @property
    def position(self) -> int:
        """Number of samples taken in so far."""
        return self._position

    @property
    def latency(self) -> int:
        """Samples by which the first path is late, for the sinc that places it and for the slack of the clock."""
        return self._segments[-1].process.latency + (self._clock.latency if self._clock else 0)

    @property
    def slips(self) -> int:
        """Number of times that the clock has repeated or skipped samples."""
        return self._clock.slips if self._clock else 0

    def __call__(self, iq: ArrayLike) -> NDArray[np.complex64]:
        """Pass samples through.

        Args:
            iq: Samples, complex [n], or [tx, n] with several antennas at the sender; any array type or list. The buffer
                may be filled again at once.

        Returns:
            New samples, complex64 [n], or [rx, n] with several antennas at the receiver.

        Raises:
            ChannelError: If the samples have another shape, or are not numbers.
        """
        samples = np.atleast_2d(_as_samples(iq))
        if samples.ndim != 2 or len(samples) != self._settings.tx:
            raise ChannelError(
                f"samples have the shape {list(samples.shape)}; the channel takes {self._settings.tx} rows of them"
            )
        starts = range(0, samples.shape[1], _MOST_CHUNK) or (0,)
        parts = [self._chunk(samples[:, start : start + _MOST_CHUNK]) for start in starts]
        out = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        return out[0] if self._settings.rx == 1 else out

    def _chunk(self, samples: NDArray[np.complex64]) -> NDArray[np.complex64]:
        place, settings = self._position, self._settings
        out = self._through_paths(amplified(samples, settings))
        if self._clock:
            out = self._clock.run(out, place)
        self._oscillator.turn(out, place)
        deviation = np.float32(np.sqrt(settings.noise_variance / 2))
        for row, rng in zip(out, self._noise, strict=True):
            if deviation:
                _add_noise(row.view(np.float32), rng.standard_normal(2 * len(row), np.float32), deviation)
        return converted(out, settings)

    def _through_paths(self, samples: NDArray[np.complex64]) -> NDArray[np.complex64]:
        count = samples.shape[1]
        # The paths leave samples as they are, until something is changed.
        if self._settings.model == "awgn" and len(self._segments) == 1 and self._settings.tx == 1:
            self._position += count
            return np.repeat(samples, self._settings.rx // self._settings.tx, axis=0)
        kept = self._history.shape[2]
        parts = np.empty((2, len(samples), kept + count), np.float32)
        parts[:, :, :kept] = self._history
        parts[0, :, kept:], parts[1, :, kept:] = samples.real, samples.imag
        out = np.zeros((2, self._settings.rx, count), np.float32)
        done = 0
        while done < count:
            segment = self._segment()
            process = segment.process
            reach = process.shape[2] - 1
            if kept < reach:
                parts = np.pad(parts, ((0, 0), (0, 0), (reach - kept, 0)))
                kept = reach
            span = GROUP * process.hop
            number, first = divmod(self._position - segment.start, span)
            length = min(count - done, span - first)
            if self._waiting:
                length = min(length, self._to_knot(segment))
            taps = self._taps_of(segment, number)
            begin, end = kept + done - reach, kept + done + length
            real, imag = parts[:, :, begin:end]
            filter_moving(real, imag, taps, process.hop, first, process.steps, *out[:, :, done : done + length])
            done += length
            self._position += length
        self._history = parts[:, :, parts.shape[2] - kept :].copy()
        joined = np.empty((self._settings.rx, count), np.complex64)
        joined.real, joined.imag = out
        return joined

    def _segment(self) -> _Segment:
        """The segment of the next sample; a waiting change begins a new one at a knot."""
        segment = self._segments[-1]
        if self._waiting and self._to_knot(segment) == 0:
            knot = (self._position - segment.start) // segment.process.hop
            carry = self._taps_of(segment, knot // GROUP)[knot % GROUP]
            segment = _Segment(self._position, self._waiting, self._settings, carry)
            self._segments = [*self._segments[-_MOST_SEGMENTS + 1 :], segment]
            self._waiting, self._group = None, None
        return segment

    def _to_knot(self, segment: _Segment) -> int:
        """Samples to the next knot; 0 at a knot."""
        return (segment.start - self._position) % segment.process.hop

    def _successor(self, settings: ChannelSettings) -> Process:
        """The process that follows at the next knot."""
        segment = self._segments[-1]
        before = segment.process
        same = all(getattr(segment.settings, name) == getattr(settings, name) for name in _TAPS if name not in _MOTION)
        if same and isinstance(before, WaveProcess):
            knot = self._position + self._to_knot(segment)
            return WaveProcess(before.paths, settings, before.phases_at(knot - segment.start))
        return make_process(settings)

    def _taps_of(self, segment: _Segment, number: int) -> Taps:
        if self._group is None or self._group[0] != number:
            self._group = number, segment.group(number)
        return self._group[1]

    def set(self, /, **changes: Any) -> None:
        """Change settings while the stream runs.

        Noise and radios change with the next sample, the paths with their next knot. Phases go on from where they are;
        with another model or other taps the old ones turn into the new along a straight line over one hop.

        Args:
            changes: Fields of :class:`ChannelSettings`, apart from ``sample_rate``, ``rx``, ``tx`` and ``seed``.

        Raises:
            ChannelError: If a setting is unknown, fixed or out of range, or the model cannot have it; then nothing is
                changed.
        """
        settings, process = self._prepared(changes)
        self._waiting = process or self._waiting
        self._oscillator.change(settings, self._position)
        if self._clock:
            self._clock.change(settings, self._position)
        self._settings = settings

    def check(self, /, **changes: Any) -> None:
        """Raise the error that :meth:`set` would raise, without changing anything."""
        self._prepared(changes)

    def _prepared(self, changes: dict[str, Any]) -> tuple[ChannelSettings, Process | None]:
        """The settings after a change, and the process that follows at the next knot; None if the paths stay."""
        settings = self._settings.changed(**changes)
        for name in FIXED:
            if getattr(settings, name) != getattr(self._settings, name):
                raise ChannelError(f"{name} cannot change while the channel runs; make another channel")
        if (settings.sro_ppm is None) != (self._clock is None):
            raise ChannelError("sro_ppm cannot be switched on or off while the channel runs; make it with sro_ppm=0")
        same = all(getattr(settings, name) == getattr(self._settings, name) for name in _TAPS)
        # The process is made at once, so that a model that cannot be had is refused now and not at the next knot.
        return settings, None if same else self._successor(settings)

    def gains_at(self, samples: ArrayLike) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
        """Return the true gains of the paths at some samples, without the effects of the radios.

        ``samples`` are positions in the stream, int [T]; gains to come are those if nothing is changed.

        Returns:
            Gains, complex128 [T, rx, tx, P], and delays of the paths in seconds, float64 [P].

        Raises:
            ChannelError: If the paths were changed between these samples, or a sample is too far back to be known.
        """
        places = np.atleast_1d(np.asarray(samples, np.float64))
        segment = self._segment_at(places)
        return segment.process.gains(places - segment.start), segment.process.delays

    def taps_at(self, samples: ArrayLike) -> Taps:
        """Return the taps of the filter at positions in the stream, complex64 [T, rx, tx, L], as :meth:`gains_at`.

        A path without delay is at tap :attr:`latency`.
        """
        places = np.atleast_1d(np.asarray(samples, np.int64))
        segment = self._segment_at(places)
        process = segment.process
        knots, offsets = np.divmod(places - segment.start, process.hop)
        groups = {number: segment.group(number) for number in np.unique(knots // GROUP)}
        starts: Taps = np.stack([groups[k // GROUP][k % GROUP] for k in knots])
        if process.steps:
            return starts
        ends = np.stack([groups[k // GROUP][k % GROUP + 1] for k in knots])
        part = (offsets / process.hop).astype(np.float32)[:, None, None, None]
        return np.asarray(starts + part * (ends - starts), np.complex64)

    def _segment_at(self, places: NDArray[Any]) -> _Segment:
        starts = [segment.start for segment in self._segments]
        low, high = (int(np.searchsorted(starts, end, "right")) - 1 for end in (places.min(), places.max()))
        if low < 0:
            raise ChannelError(
                f"sample {places.min():g} is too far back; the channel remembers {_MOST_SEGMENTS} changes"
            )
        if low != high:
            raise ChannelError(
                f"the channel was changed at sample {starts[high]}; ask for the samples before and after it separately"
            )
        return self._segments[low]

    def record(self, path: str | Path, start: int, stop: int) -> None:
        """Write the paths between two samples as a CIR file, which the model ``replay`` turns into the same output.

        A transition from old taps to new ones, in the first hop after a change, is not part of the file.

        Args:
            path: Name of the file, ``.npz`` or ``.h5``.
            start: A sample; the file begins at the knot at or before it.
            stop: A sample; the file ends at the knot at or behind it.

        Raises:
            ChannelError: If the paths were changed between these samples, or the file cannot be written.
        """
        segment = self._segment_at(np.array([start, stop]))
        hop = segment.process.hop
        first, last = (start - segment.start) // hop, -((segment.start - stop) // hop)
        places = np.arange(first, last + 1) * float(hop)
        # A few at a time: the waves of all knots at once may be gigabytes.
        parts = [segment.process.gains(places[i : i + _A_RECORD]) for i in range(0, len(places), _A_RECORD)]
        process = segment.process
        Cir(np.concatenate(parts), process.delays, hop / self._settings.sample_rate, process.steps).save(path)


def _as_samples(iq: Any) -> NDArray[np.complex64]:
    """Samples of any array type; those of torch may be on a device or part of a graph."""
    if hasattr(iq, "detach"):
        iq = iq.detach().cpu().resolve_conj().resolve_neg().numpy()
    try:
        samples = np.asarray(iq)
        if samples.dtype.kind not in "biufc":
            raise TypeError(f"not of {samples.dtype}")
        return samples.astype(np.complex64, copy=False)
    except (TypeError, ValueError) as error:
        raise ChannelError(f"samples must be numbers in an array or list: {brief(error)}") from None


@compiled(nogil=True)
def _add_noise(samples: NDArray[np.float32], noise: NDArray[np.float32], deviation: np.float32) -> None:
    for i in range(len(samples)):
        samples[i] += deviation * noise[i]
