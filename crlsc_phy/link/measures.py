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
        kind: ``count``: a ratio of two of :class:`~crlsc_phy.link.chain.Outcome`'s counts, with Wilson's interval.
            ``hit``: 0 or 1 an image, with Wilson's interval unless images repeat. ``mean``: any number an image, with
            a bootstrap over images.
        logarithmic: Whether its axis is.
    """

    title: str
    unit: str = ""
    kind: Literal["count", "hit", "mean"] = "mean"
    logarithmic: bool = False


RATES: dict[str, tuple[str, str]] = {
    "ber": ("bit_errors", "bits"),
    "bler": ("block_errors", "blocks"),
    "frame_loss": ("frames_lost", "frames"),
}
"""Of each measure of kind ``count`` the counts of events and of trials."""

MEASURES: dict[str, Measure] = {
    "ber": Measure("Bit error rate", kind="count", logarithmic=True),
    "bler": Measure("Block error rate", kind="count", logarithmic=True),
    "frame_loss": Measure("Frames lost", kind="count"),
    "psnr_db": Measure("PSNR", "dB"),
    "ssim": Measure("SSIM"),
    "ms_ssim": Measure("MS-SSIM"),
    "lpips": Measure("LPIPS"),
    "outage": Measure("Outage: nothing shown", kind="hit"),
    "label": Measure("Right label, nearest entries' vote", kind="hit"),
    "recall_1": Measure("Right label among the nearest entry", kind="hit"),
    "recall_5": Measure("Right label among 5 entries", kind="hit"),
    "recall_10": Measure("Right label among 10 entries", kind="hit"),
    "cosine": Measure("Cosine of received and sent embedding"),
    "cbr": Measure("Channel uses a source value (CBR)"),
    "channel_uses": Measure("Channel uses"),
    "air_bytes": Measure("Bytes on the air"),
    "airtime_s": Measure("Airtime", "s"),
    "energy": Measure("Energy an image over noise power", ""),
    "snr_db_estimated": Measure("Estimated Es/N0", "dB"),
    "encode_s": Measure("CPU time to encode", "s"),
    "decode_s": Measure("CPU time to decode", "s"),
}
