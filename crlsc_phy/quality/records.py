"""Records of the images of a run, and a summary of the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from crlsc_phy.quality.metrics import cbr

__all__ = ["EXACT_PSNR_DB", "ImageRecord", "mean_of_known", "summarise"]

EXACT_PSNR_DB = 100.0
"""PSNR of an exact copy in dB; JSON has no infinity."""


@dataclass
class ImageRecord:
    """Record of one image of a run.

    Attributes:
        sequence: Counter of the sender, modulo 2**16.
        name: Name of the image file; empty if the sender is not known.
        height, width: Size in pixels.
        true_labels: Right labels; empty if none is known.
        received: Whether the receiver made a picture.
        reason: Reason why it did not, if known.
        psnr_db, ms_ssim: Metrics of the received image; None without the sent or the received one. The PSNR of an
            exact copy is :data:`EXACT_PSNR_DB`.
        label, confidence, neighbours: Meaning found by the receiver.
        semantic_ok, detail_ok: Whether the layers arrived without errors.
        snr_db, cfo_hz, evm_db: Estimates of the receiver.
        samples: Complex samples of the whole burst.
        air_bytes: Bytes of the semantic frame.
    """

    sequence: int
    name: str = ""
    height: int = 0
    width: int = 0
    true_labels: list[str] = field(default_factory=list)
    received: bool = False
    reason: str = ""
    psnr_db: float | None = None
    ms_ssim: float | None = None
    label: str | None = None
    confidence: float | None = None
    neighbours: list[dict[str, Any]] = field(default_factory=list)
    semantic_ok: bool | None = None
    detail_ok: bool | None = None
    snr_db: float | None = None
    cfo_hz: float | None = None
    evm_db: float | None = None
    samples: int | None = None
    air_bytes: int | None = None

    @property
    def label_correct(self) -> bool | None:
        """True if the receiver's label is right; None if no right label is known or nothing was received."""
        if not self.true_labels or not self.received:
            return None
        return self.label in self.true_labels

    @property
    def cbr(self) -> float | None:
        """Complex channel uses per source value; None if the burst was not seen."""
        return cbr(self.samples, self.height, self.width) if self.samples and self.height else None


def summarise(records: Sequence[ImageRecord]) -> dict[str, Any]:
    """Return the summary of a run as JSON values; its lists are in the order of the records.

    ``snr_db_estimated``, ``cbr`` and ``air_bytes_mean`` are means over the images for which they are known, or None.
    """
    received = [record for record in records if record.received]
    return {
        "images_sent": len(records),
        "images_received": len(received),
        "frames_lost": len(records) - len(received),
        "psnr_db": [record.psnr_db for record in received],
        "ms_ssim": [record.ms_ssim for record in received],
        "label_correct": [record.label_correct for record in received],
        "snr_db_estimated": mean_of_known(record.snr_db for record in received),
        "cbr": mean_of_known(record.cbr for record in records),
        "air_bytes_mean": mean_of_known(record.air_bytes for record in records),
        "rows": [asdict(record) | {"label_correct": record.label_correct, "cbr": record.cbr} for record in records],
    }


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there is none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
