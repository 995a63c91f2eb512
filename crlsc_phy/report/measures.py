"""The figures that a sweep shows, by name: what each is called, its unit and how its interval is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["MEASURES", "RATES", "Measure"]


@dataclass(frozen=True)
class Measure:
    """A figure.

    Attributes:
        title: As on an axis.
        unit: Empty for plain numbers.
        kind: ``count``: a ratio of two of :class:`~crlsc_phy.link.chain.Outcome`'s counts, ``hit``: 0 or 1 an image;
            both with Wilson's interval, see :func:`~crlsc_phy.quality.intervals.rate_interval`. ``mean``: any number an
            image, with a bootstrap over images.
        logarithmic: Whether its axis is.
        better: Whether ``higher`` or ``lower`` values are; empty for what says nothing about quality.
    """

    title: str
    unit: str = ""
    kind: Literal["count", "hit", "mean"] = "mean"
    logarithmic: bool = False
    better: Literal["higher", "lower", ""] = ""


RATES: dict[str, tuple[str, str]] = {
    "ber": ("bit_errors", "bits"),
    "bler": ("block_errors", "blocks"),
    "frame_loss": ("frames_lost", "frames"),
}
"""Of each measure of kind ``count`` the counts of events and of trials."""

MEASURES: dict[str, Measure] = {
    "ber": Measure("Bit error rate", kind="count", logarithmic=True, better="lower"),
    "bler": Measure("Block error rate", kind="count", logarithmic=True, better="lower"),
    "frame_loss": Measure("Frames lost", kind="count", better="lower"),
    "psnr_db": Measure("PSNR", "dB", better="higher"),
    "ssim": Measure("SSIM", better="higher"),
    "ms_ssim": Measure("MS-SSIM", better="higher"),
    "lpips": Measure("LPIPS", better="lower"),
    "outage": Measure("Outage: nothing shown", kind="hit", better="lower"),
    "label": Measure("Right label, nearest entries' vote", kind="hit", better="higher"),
    "recall_1": Measure("Right label among the nearest entry", kind="hit", better="higher"),
    "recall_5": Measure("Right label among 5 entries", kind="hit", better="higher"),
    "recall_10": Measure("Right label among 10 entries", kind="hit", better="higher"),
    "cosine": Measure("Cosine of received and sent embedding", better="higher"),
    "cbr": Measure("Channel uses a source value (CBR)"),
    "channel_uses": Measure("Channel uses"),
    "air_bytes": Measure("Bytes on the air"),
    "airtime_s": Measure("Airtime", "s"),
    "energy": Measure("Energy an image over noise power", ""),
    "snr_db_estimated": Measure("Estimated Es/N0", "dB"),
    "encode_s": Measure("CPU time to encode", "s"),
    "decode_s": Measure("CPU time to decode", "s"),
}
