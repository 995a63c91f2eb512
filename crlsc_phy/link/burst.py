"""A frame through the modem and a channel, as one burst.

    frame -> modulated -> at an unknown time and phase -> StreamChannel with noise -> a receiver new to it all

Fading: each trial draws a new realisation of the channel from its seed. It moves on through the burst as the channel's
speed says; with speed 0, or a ``-block`` model of a long block, it stands still for the whole burst. The receiver
estimates what it needs: time, phase, CFO, clock, channel and noise.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crlsc_phy.channel import ChannelSettings, StreamChannel
from crlsc_phy.errors import ModemError, SweepError
from crlsc_phy.frame import FrameHeader, ModeName, SemanticFrame
from crlsc_phy.phy import MCS_TABLE, Burst, BurstModem, Mcs, Numerology
from crlsc_phy.phy.layout import Layout
from crlsc_phy.phy.papr import check_papr

__all__ = ["BurstLink", "BurstOptions", "Passage"]

# Samples before and behind the burst. The receiver does not know how many there are before it.
_LEAST_BEFORE, _MOST_BEFORE = 300, 1500
_BEHIND = 300
# Enough for the largest picture at the lowest rate.
_MAX_BURST_SAMPLES = 1 << 24


@dataclass(frozen=True)
class BurstOptions:
    """What all chains of whole bursts share.

    Attributes:
        papr_db: Where the sender clips, over the mean power; None leaves the burst as it is.
    """

    papr_db: float | None = None

    def __post_init__(self) -> None:
        if self.papr_db is not None:
            try:
                check_papr(self.papr_db)
            except ModemError as error:
                raise SweepError(str(error)) from None


@dataclass(frozen=True)
class Passage:
    """What became of a frame.

    Attributes:
        burst: As received; None if it was not.
        segments: Segments of the digital detail as sent.
        segment_failures: Of those, lost; all of them with the burst.
        channel_uses: Complex samples times the occupied part of the band: preamble, signalling, pilots, cyclic
            prefixes and padding counted, silence left out.
        airtime_s: Of the burst; None where there is no time.
        modulate_s, receive_s: CPU time.
    """

    burst: Burst | None
    segments: int
    segment_failures: int
    channel_uses: float
    airtime_s: float | None
    modulate_s: float
    receive_s: float


class BurstLink:
    """Sender, channel and receiver.

    Args:
        channel: The channel; its ``sample_rate`` is the modem's, noise, occupied band and seed are set by trial.
        papr_db: Where the sender clips, see :class:`BurstModem`.

    Attributes:
        numerology: Of the modem.
        channel: As given, with the modem's part of the band.

    Raises:
        SweepError: If the channel has several antennas.
        ModemError: If ``papr_db`` is out of range.
    """

    def __init__(self, channel: ChannelSettings, papr_db: float | None = None) -> None:
        if channel.tx != 1 or channel.rx != 1:
            raise SweepError(f"channel has {channel.tx} x {channel.rx} antennas; the modem takes tx: 1 and rx: 1")
        self.numerology = Numerology(sample_rate=channel.sample_rate)
        self.channel = channel.changed(occupied=self.numerology.occupied / self.numerology.fft_size)
        self._papr_db = papr_db
        self._measure = self._modem()

    def channel_uses(self, header: FrameHeader, mcs: Mcs) -> float:
        """Channel uses of the burst for a frame with ``header``, counted as in :class:`Passage`."""
        return self._measure.channel_uses(header, mcs)

    def send(self, frame: SemanticFrame, mcs: Mcs, snr_db: float, seed: Sequence[int]) -> Passage:
        """Send a frame.

        Args:
            frame: Complete.
            mcs: Of its detail layer.
            snr_db: Es/N0 on an occupied carrier, of a burst of unit mean power and a channel of unit mean gain.
            seed: Of all that is drawn; the channel does not depend on the frame.
        """
        channel, before, turn = self._realisation(snr_db, seed)
        # New for each burst: a receiver learns from headers, and what it has heard would depend on other trials.
        modem = self._modem(mcs)
        start = time.process_time()
        iq = modem.modulate(frame)
        modulated = time.process_time()
        air = channel(np.pad(iq * turn, (before, _BEHIND + channel.latency)))
        passed = time.process_time()
        bursts = modem.receive(air) + modem.flush()
        done = time.process_time()
        burst = next((found for found in bursts if found.frame.header == frame.header), None)
        layout = Layout.of(self.numerology, frame.header, mcs)
        segments = layout.segments.count if layout.segments else 0
        return Passage(
            burst=burst,
            segments=segments,
            segment_failures=burst.segment_failures if burst else segments,
            channel_uses=self.channel_uses(frame.header, mcs),
            airtime_s=self._measure.burst_samples(frame.header, mcs) / self.numerology.sample_rate,
            modulate_s=modulated - start,
            receive_s=done - passed,
        )

    def capacity(self, uses: float, snr_db: float, seed: Sequence[int]) -> float:
        """Bits a channel use that a burst of so many could carry at most over the realisation of :meth:`send`.

        The mean of log2(1 + |H|^2 Es/N0) over the occupied carriers and the burst: the sender shares its power evenly.
        """
        channel, before, _ = self._realisation(snr_db, seed)
        numerology = self.numerology
        samples = uses * numerology.fft_size / numerology.occupied
        places = before + np.arange(0, max(samples, 1), numerology.symbol_length)
        response = np.fft.fft(channel.taps_at(places)[:, 0, 0], numerology.fft_size, axis=1)
        carriers = np.arange(-numerology.occupied // 2, numerology.occupied // 2 + 1)
        gains = np.abs(response[:, carriers[carriers != 0]]) ** 2
        return float(np.mean(np.log2(1 + gains * 10 ** (snr_db / 10))))

    def _realisation(self, snr_db: float, seed: Sequence[int]) -> tuple[StreamChannel, int, np.complex64]:
        """What a trial draws: the channel, the samples before the burst, and its phase."""
        rng = np.random.default_rng(seed)
        settings = self.channel.changed(snr_db=snr_db, seed=int(rng.integers(1 << 63)))
        turn = np.complex64(np.exp(2j * np.pi * rng.random()))
        return StreamChannel(**vars(settings)), int(rng.integers(_LEAST_BEFORE, _MOST_BEFORE)), turn

    def _modem(self, mcs: Mcs = MCS_TABLE[0]) -> BurstModem:
        mode: ModeName = "analog" if mcs.analog else "digital"
        return BurstModem(self.numerology, mcs.index, mode, _MAX_BURST_SAMPLES, papr_db=self._papr_db)
