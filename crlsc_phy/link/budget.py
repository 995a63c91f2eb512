"""Rates of the codec that fit a number of channel uses, all overhead counted."""

from __future__ import annotations

from dataclasses import dataclass

from crlsc_phy.codec import STRIDE, SemanticCodec
from crlsc_phy.frame import SYMBOL, FrameHeader, Mode, ModeName
from crlsc_phy.images import UInt8Image
from crlsc_phy.link.frame_links import FrameLink
from crlsc_phy.phy import MCS_TABLE, Mcs
from crlsc_phy.phy.adaptation import THRESHOLDS_DB
from crlsc_phy.quality.metrics import cbr
from crlsc_phy.semantic.tokens import packed_size

__all__ = ["Budget", "Rate"]


@dataclass(frozen=True)
class Rate:
    """Rate at which a picture is sent.

    Attributes:
        mode: Mode of the detail layer.
        levels: Codebook levels, or analog symbols for 8 x 8 pixels; 0 for the semantic layer alone.
        mcs: MCS of the detail layer.
    """

    mode: ModeName
    levels: int
    mcs: Mcs


class Budget:
    """Cost of rates in channel uses, counted before anything is encoded.

    Args:
        codec: Codec whose rates are counted.
        link: Link that sends the frames.
        limit: Most channel uses a source value; None for no limit.
    """

    def __init__(self, codec: SemanticCodec, link: FrameLink, limit: float | None = None) -> None:
        self._link, self._limit = link, limit
        self._semantic_bytes = codec.bundle.knowledge.air_code.size
        self._token_bits = codec.bundle.quantiser.bits
        self._most: dict[ModeName, int] = {"digital": codec.levels, "analog": codec.analog.most}

    def cbr(self, image: UInt8Image, rate: Rate) -> float:
        """Return the channel uses a source value."""
        height, width = image.shape[:2]
        blocks = -(-height // STRIDE) * -(-width // STRIDE)
        if rate.mode == "analog":
            detail, mode = rate.levels * blocks * SYMBOL.itemsize, Mode.ANALOG
        else:
            detail, mode = packed_size(rate.levels * blocks, self._token_bits), Mode.DIGITAL
        header = FrameHeader(bytes(4), height, width, self._semantic_bytes, detail, mode=mode)
        return cbr(self._link.channel_uses(header, rate.mcs), height, width)

    def fits(self, image: UInt8Image, rate: Rate) -> bool:
        """Return True if a rate is within the limit."""
        return self._limit is None or self.cbr(image, rate) <= self._limit

    def highest(self, image: UInt8Image, mode: ModeName, mcs: Mcs, most: int | None = None) -> Rate | None:
        """Return the rate of most levels or symbols that fits, or None if the lowest does not.

        The lowest digital rate is the semantic layer alone.

        Args:
            image: uint8 [H, W, 3].
            mode: Mode of the detail layer.
            mcs: MCS of the detail layer.
            most: Most levels or symbols; those of the codec if None.
        """
        least = 1 if mode == "analog" else 0
        levels = range(self._most[mode] if most is None else most, least - 1, -1)
        return next((rate for n in levels if self.fits(image, rate := Rate(mode, n, mcs))), None)

    def adapted(self, image: UInt8Image, snr_db: float, most: int | None = None) -> Rate | None:
        """Return the digital rate for an SNR, by the thresholds of the link adapter, or None if nothing fits.

        Among the MCSs whose threshold the SNR meets, those that carry the most levels within the limit are considered.
        The most robust of them is taken, or without a limit the one with the shortest burst. Below all thresholds the
        semantic layer is sent alone.

        Args:
            image: uint8 [H, W, 3].
            snr_db: Es/N0 in dB.
            most: Most levels; those of the codec if None.
        """
        met = [mcs for mcs, needed in zip(MCS_TABLE, THRESHOLDS_DB, strict=True) if needed <= snr_db]
        if not met:
            return self.highest(image, "digital", MCS_TABLE[0], most=0)
        rates = [rate for mcs in met if (rate := self.highest(image, "digital", mcs, most))]
        if not rates:
            return None
        levels = max(rate.levels for rate in rates)
        best = [rate for rate in rates if rate.levels == levels]
        return best[-1 if self._limit is None else 0]
