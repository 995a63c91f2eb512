"""The measures that a sweep reports: title, unit and kind of interval.

A metric is a number for one image; a measure is an estimate for a whole point, made from metrics or from counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crlsc_phy.errors import SweepError

__all__ = ["MEASURES", "RATES", "Measure", "check_measure"]


@dataclass(frozen=True)
class Measure:
    """Description of a measure.

    Attributes:
        title: Title of its axis.
        unit: Unit; empty for plain numbers.
        kind: ``count`` is a ratio of two counts of :class:`~crlsc_phy.link.chain.Outcome`, ``hit`` a metric that is 0
            or 1 for each image; both have Wilson's interval, see :func:`~crlsc_phy.quality.intervals.rate_interval`.
            ``mean`` is the mean of a metric, with a bootstrap over images.
        logarithmic: Whether its axis is logarithmic.
        better: ``higher`` or ``lower``, whichever values are better; empty if it says nothing about quality.
    """

    title: str
    unit: str = ""
    kind: Literal["count", "hit", "mean"] = "mean"
    logarithmic: bool = False
    better: Literal["higher", "lower", ""] = ""

    @property
    def label(self) -> str:
        """Title with the unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title


RATES: dict[str, tuple[str, str]] = {
    "ber": ("bit_errors", "bits"),
    "bler": ("block_errors", "blocks"),
    "frame_loss": ("frames_lost", "frames"),
}
"""Names of the counts of events and of trials, for each measure of kind ``count``."""

MEASURES: dict[str, Measure] = {
    "ber": Measure("Bit error rate", kind="count", logarithmic=True, better="lower"),
    "bler": Measure("Block error rate", kind="count", logarithmic=True, better="lower"),
    "frame_loss": Measure("Frames lost", kind="count", better="lower"),
    "psnr_db": Measure("PSNR", "dB", better="higher"),
    "ssim": Measure("SSIM", better="higher"),
    "ms_ssim": Measure("MS-SSIM", better="higher"),
    "lpips": Measure("LPIPS", better="lower"),
    "outage": Measure("Outage: nothing shown", kind="hit", better="lower"),
    "label": Measure("Right label by vote of the nearest entries", kind="hit", better="higher"),
    "recall_1": Measure("Right label among the nearest entry", kind="hit", better="higher"),
    "recall_5": Measure("Right label among 5 entries", kind="hit", better="higher"),
    "recall_10": Measure("Right label among 10 entries", kind="hit", better="higher"),
    "cosine": Measure("Cosine of received and sent embedding", better="higher"),
    "cbr": Measure("Channel uses per source value (CBR)"),
    "channel_uses": Measure("Channel uses"),
    "air_bytes": Measure("Bytes on the air"),
    "airtime_s": Measure("Airtime", "s"),
    "energy": Measure("Energy per image over noise power"),
    "snr_db_estimated": Measure("Estimated Es/N0", "dB"),
    "encode_s": Measure("CPU time to encode", "s"),
    "decode_s": Measure("CPU time to decode", "s"),
}


def check_measure(name: str, where: str = "") -> str:
    """Return ``name`` if there is a measure of that name.

    Raises:
        SweepError: If there is none; the message begins with ``where``.
    """
    if name not in MEASURES:
        place = f"{where}: " if where else ""
        raise SweepError(f"{place}measure {name!r} is unknown; choose one of {', '.join(MEASURES)}")
    return name
