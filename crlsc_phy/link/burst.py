"""Link that sends a frame as one burst, through the modem and a channel.

    frame -> burst -> unknown time and phase -> StreamChannel with noise -> receiver without earlier bursts

Each trial draws a realisation of the channel from its seed. The channel moves on during the burst by its speed; with
speed 0, or a ``-block`` model of a long block, it stands still. The receiver estimates time, phase, CFO, clock, channel
and noise.
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

# Samples before and behind the burst. Their number before it is random.
_LEAST_BEFORE, _MOST_BEFORE = 300, 1500
_BEHIND = 300
# Enough for the largest picture at the lowest rate.
_MAX_BURST_SAMPLES = 1 << 24


@dataclass(frozen=True)
class BurstOptions:
    """Options that all chains of whole bursts share.

    Attributes:
        papr_db: Peak power over mean power in dB to which the sender clips; None leaves the burst as it is.
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
    """Outcome of a frame that was sent.

    Attributes:
        burst: Burst received; None if it was lost.
        segments: Segments of the digital detail that were sent.
        segment_failures: Segments that were lost; all if the burst was.
        channel_uses: Complex samples times the occupied part of the band: preamble, signalling, pilots, cyclic
            prefixes and padding counted, silence left out.
        airtime_s: Duration of the burst in s; None on a link without time.
        modulate_s, receive_s: CPU time in s.
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
        channel: Settings of the channel; ``sample_rate`` is the modem's too. Noise, occupied band and seed are set in
            each trial.
        papr_db: Peak power over mean power in dB to which the sender clips, see :class:`BurstModem`.

    Attributes:
        numerology: Numerology of the modem.
        channel: Settings of the channel, with the modem's part of the band.

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
        """Return the channel uses of the burst for a frame with ``header``, counted as in :class:`Passage`."""
        return self._measure.channel_uses(header, mcs)

    def send(self, frame: SemanticFrame, mcs: Mcs, snr_db: float, seed: Sequence[int]) -> Passage:
        """Send a frame.

        Args:
            frame: A complete frame.
            mcs: MCS of its detail layer.
            snr_db: Es/N0 in dB on an occupied carrier, for a burst of unit mean power and a channel of unit mean gain.
            seed: Seed of everything random; the channel does not depend on the frame.
        """
        channel, before, turn = self._realisation(snr_db, seed)
        # A new receiver for each burst: it learns from headers, and would depend on other trials.
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
        """Return the capacity over the realisation of :meth:`send`, in bits a channel use.

        It is the mean of log2(1 + |H|^2 Es/N0) over the occupied carriers and the burst, whose power is spread evenly.

        Args:
            uses: Channel uses of the burst.
            snr_db: Es/N0 in dB, as for :meth:`send`.
            seed: Seed of the realisation.
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
        """Draw the channel of a trial, the samples before the burst, and its phase."""
        rng = np.random.default_rng(seed)
        settings = self.channel.changed(snr_db=snr_db, seed=int(rng.integers(1 << 63)))
        turn = np.complex64(np.exp(2j * np.pi * rng.random()))
        return StreamChannel(**vars(settings)), int(rng.integers(_LEAST_BEFORE, _MOST_BEFORE)), turn

    def _modem(self, mcs: Mcs = MCS_TABLE[0]) -> BurstModem:
        mode: ModeName = "analog" if mcs.analog else "digital"
        return BurstModem(self.numerology, mcs.index, mode, _MAX_BURST_SAMPLES, papr_db=self._papr_db)
