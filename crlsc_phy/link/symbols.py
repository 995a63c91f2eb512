"""Links that carry bursts of complex symbols."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import SweepError
from crlsc_phy.frame import SYMBOL, FrameHeader, Mode, SemanticFrame
from crlsc_phy.link.burst import BurstLink
from crlsc_phy.link.chain import Scene
from crlsc_phy.link.flat_fading import FlatLink
from crlsc_phy.phy.mcs import find_mcs

__all__ = ["ModemLink", "SymbolLink", "over_air", "over_symbols"]


class SymbolLink(Protocol):
    """A link of symbols."""

    def uses(self, symbols: int) -> float:
        """Return the channel uses of a burst of so many symbols, all overhead counted."""
        ...

    def send(
        self, symbols: NDArray[np.complex64], snr_db: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Send bursts, each over a realisation of the channel.

        Args:
            symbols: complex64 [bursts, n], each burst of unit mean power.
            snr_db: Mean Es/N0 in dB.
            rng: Source of everything random.

        Returns:
            Equalised symbols without bias, complex64 [bursts, n], and the variance of the noise on each as the receiver
            estimates it, float32 [bursts, n]; infinite for symbols that are lost.
        """
        ...


class ModemLink:
    """Link by the burst modem: symbols are the analog detail of a frame that holds nothing else.

    Args:
        settings: Settings of the channel.

    Raises:
        SweepError: If it has several antennas.
    """

    def __init__(self, settings: ChannelSettings) -> None:
        self._link = BurstLink(settings)
        self._mcs = find_mcs("analog-1/1")

    def uses(self, symbols: int) -> float:
        """Return the channel uses of the burst: preamble, header, pilots, cyclic prefixes and padding counted."""
        return self._link.channel_uses(_header(symbols), self._mcs)

    def send(
        self, symbols: NDArray[np.complex64], snr_db: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Send bursts through the modem; a burst that is not found is lost as a whole.

        Args:
            symbols: complex64 [bursts, n], each burst of unit mean power.
            snr_db: Mean Es/N0 in dB.
            rng: Source of everything random.

        Returns:
            Symbols and variances, as :meth:`SymbolLink.send`.
        """
        received = np.zeros(symbols.shape, np.complex64)
        noise = np.full(symbols.shape, np.inf, np.float32)
        for row, burst in enumerate(symbols):
            frame = SemanticFrame(_header(len(burst)), b"", burst.astype(SYMBOL).tobytes())
            passage = self._link.send(frame, self._mcs, snr_db, rng.integers(1 << 32, size=4).tolist())
            if passage.burst and len(passage.burst.symbols):
                received[row], noise[row] = passage.burst.symbols, passage.burst.symbol_noise
        return received, noise


def over_air(scene: Scene) -> SymbolLink:
    """Return the link that the scene's ``air`` names.

    Raises:
        SweepError: If it cannot carry the scene's channel, or Sionna is not installed.
    """
    if scene.air == "modem":
        return ModemLink(scene.channel)
    try:
        from crlsc_phy.link.grid import Grid
    except ImportError as error:
        raise SweepError(f"air: grid needs Sionna: {error}; pip install 'crlsc-phy[sionna]'") from None
    return Grid(scene.channel, scene.csi)


def over_symbols(scene: Scene, block: bool) -> SymbolLink:
    """Return a link of symbols in perfect synchrony; ``block`` as for :class:`FlatLink`."""
    return FlatLink(scene.channel, block)


def _header(symbols: int) -> FrameHeader:
    return FrameHeader(bytes(4), 1, 1, 0, symbols * SYMBOL.itemsize, mode=Mode.ANALOG)
