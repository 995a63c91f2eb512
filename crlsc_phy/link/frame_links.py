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
        """Return the channel uses of a frame with ``header``, all overhead counted."""
        ...

    def send(self, frame: SemanticFrame, mcs: Mcs, snr_db: float, seed: Sequence[int]) -> Passage:
        """Send a frame.

        Args:
            frame: A complete frame.
            mcs: MCS of its detail layer.
            snr_db: Mean Es/N0 in dB.
            seed: Seed of the realisation of the channel, which does not depend on the frame.
        """
        ...

    def capacity(self, uses: float, snr_db: float, seed: Sequence[int]) -> float:
        """Return the capacity over a realisation of the channel, in bits a channel use.

        Args:
            uses: Channel uses of the burst.
            snr_db: Mean Es/N0 in dB.
            seed: Seed of the realisation.
        """
        ...


@dataclass(frozen=True)
class _Column:
    """Numerology of blocks of single symbols, for a link that does its own padding."""

    data_carriers: int = 1
    network: int = 0
    signalling_repetition: int = 3


class GridLink:
    """Link that sends a frame as symbols: layers, codes and CRCs of a burst, without preamble and header.

    Both ends know the header: sizes, mode and MCS.

    Args:
        link: Link that carries the symbols.
    """

    def __init__(self, link: SymbolLink) -> None:
        self._link = link

    def channel_uses(self, header: FrameHeader, mcs: Mcs) -> float:
        """Return the channel uses of a frame with ``header``, all overhead counted."""
        layout = Layout.of(_Column(), header, mcs)
        return self._link.uses(layout.symbols - layout.header.symbols)

    def send(self, frame: SemanticFrame, mcs: Mcs, snr_db: float, seed: Sequence[int]) -> Passage:
        """Send a frame. SNR and EVM of the burst received are those by the noise on its symbols.

        Args:
            frame: A complete frame.
            mcs: MCS of its detail layer.
            snr_db: Mean Es/N0 in dB.
            seed: Seed of the realisation of the channel.
        """
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
        """Return the capacity by the noise on equalised symbols, in bits a channel use.

        Args:
            uses: Channel uses of the burst.
            snr_db: Mean Es/N0 in dB.
            seed: Seed of the realisation of the channel.
        """
        # The value of the symbols does not matter.
        symbols = np.ones((1, int(uses)), np.complex64)
        _, noise = self._link.send(symbols, snr_db, np.random.default_rng(seed))
        return float(np.mean(np.log2(1 + 1 / noise)))


def frame_link(scene: Scene, papr_db: float | None = None) -> FrameLink:
    """Return the link of frames that a scene names.

    Raises:
        SweepError: If the link cannot carry the scene's channel, its library is not installed, or ``papr_db`` is given
            for a link without a waveform.
    """
    if scene.air == "modem":
        return BurstLink(scene.channel, papr_db)
    if papr_db is not None:
        raise SweepError(
            f"papr_db is {papr_db:g}; a grid has no waveform to clip: leave papr_db out, or set air: modem"
        )
    return GridLink(over_air(scene))
