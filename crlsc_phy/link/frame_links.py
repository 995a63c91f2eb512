"""Links that carry semantic frames: the modem's bursts, or a grid in perfect synchrony."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crlsc_phy.errors import SweepError
from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.link.burst import BurstLink, Passage
from crlsc_phy.link.chain import Scene
from crlsc_phy.link.symbols import SymbolLink, over_air
from crlsc_phy.phy import Burst, Mcs
from crlsc_phy.phy.layers import EqualisedSymbols, LayerReader
from crlsc_phy.phy.layout import Layout

__all__ = ["FrameLink", "GridLink", "frame_link"]

# The symbols of a grid are what they are: a second look at them tells nothing new.
_READER = LayerReader(tries=1)


class FrameLink(Protocol):
    """A link of frames."""

    def channel_uses(self, header: FrameHeader, mcs: Mcs) -> float:
        """Channel uses of a frame with ``header``, everything counted that is sent with it."""
        ...

    def send(self, frame: SemanticFrame, mcs: Mcs, snr_db: float, seed: Sequence[int]) -> Passage:
        """Send a frame; ``seed`` decides the realisation of the channel, whatever is sent."""
        ...

    def capacity(self, uses: float, snr_db: float, seed: Sequence[int]) -> float:
        """Bits that each of so many channel uses could carry at most over that realisation."""
        ...


@dataclass(frozen=True)
class _Column:
    """Blocks of single symbols, for a link that pads what it sends itself."""

    data_carriers: int = 1
    network: int = 0
    signalling_repetition: int = 3


class GridLink:
    """Frames as symbols: the same layers, codes and CRCs as in a burst, without preamble and header.

    Both ends know what the header says: sizes, mode and MCS.

    Args:
        link: What carries the symbols.
    """

    def __init__(self, link: SymbolLink) -> None:
        self._link = link

    def channel_uses(self, header: FrameHeader, mcs: Mcs) -> float:
        """As of :class:`FrameLink`."""
        layout = Layout.of(_Column(), header, mcs)
        return self._link.uses(layout.symbols - layout.header.symbols)

    def send(self, frame: SemanticFrame, mcs: Mcs, snr_db: float, seed: Sequence[int]) -> Passage:
        """As of :class:`FrameLink`; what arrives has the SNR and the EVM that the noise on its symbols makes."""
        layout = Layout.of(_Column(), frame.header, mcs)
        start = time.process_time()
        symbols = layout.modulate(frame)
        modulated = time.process_time()
        received, noise = self._link.send(symbols.reshape(1, -1), snr_db, np.random.default_rng(seed))
        passed = time.process_time()
        channel_uses = self.channel_uses(frame.header, mcs)
        equalised = EqualisedSymbols(received.reshape(-1, 1), noise.reshape(-1, 1))
        layers, _ = _READER.layers(frame.header, layout, lambda _: equalised, symbols[:0])
        burst = Burst(
            **vars(layers),
            start=0,
            snr_db=10 * float(np.log10(np.mean(1 / noise))),
            cfo_hz=0.0,
            evm_db=10 * float(np.log10(np.mean(noise))),
            mcs=mcs,
            channel_uses=channel_uses,
        )
        return Passage(
            burst=burst,
            segments=burst.segments,
            segment_failures=burst.segment_failures,
            channel_uses=channel_uses,
            airtime_s=None,
            modulate_s=modulated - start,
            receive_s=time.process_time() - passed,
        )

    def capacity(self, uses: float, snr_db: float, seed: Sequence[int]) -> float:
        """As of :class:`FrameLink`, by the noise that a receiver sees after equalising."""
        # What the symbols say is of no interest.
        symbols = np.ones((1, int(uses)), np.complex64)
        _, noise = self._link.send(symbols, snr_db, np.random.default_rng(seed))
        return float(np.mean(np.log2(1 + 1 / noise)))


def frame_link(scene: Scene, papr_db: float | None = None) -> FrameLink:
    """The link of frames that a scene names.

    Raises:
        SweepError: If it cannot carry the scene's channel, what it needs is not installed, or peaks are to be clipped
            where there is no waveform.
    """
    if scene.air == "modem":
        return BurstLink(scene.channel, papr_db)
    if papr_db is not None:
        raise SweepError(f"papr_db is {papr_db:g}; a grid has no waveform to clip: leave it out, or set air: modem")
    return GridLink(over_air(scene))
