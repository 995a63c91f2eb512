"""Image PDUs to PNG files, a gallery and metrics."""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pmt

from crlsc_phy.files import write_text
from crlsc_phy.images import UInt8Image, save_png
from crlsc_phy.net.messages import Meta
from crlsc_phy.quality.metrics import ms_ssim, psnr_db
from crlsc_phy.quality.records import EXACT_PSNR_DB, ImageRecord, summarise
from crlsc_phy.report.gallery import GalleryEntry, draw_gallery
from gr_blocks import pdu
from gr_blocks.block import Block

__all__ = ["image_sink"]

MOST_RECORDS = 100_000
MOST_NAME_BYTES = 200

_META_TYPES: dict[str, type] = {
    "label": str,
    "confidence": float,
    "semantic_ok": bool,
    "detail_ok": bool,
    "snr_db": float,
    "cfo_hz": float,
    "evm_db": float,
}
_NEIGHBOUR_TYPES: dict[str, type] = {"label": str, "name": str, "score": float, "base": str}


@dataclass
class _Open:
    """An image that may still arrive."""

    record: ImageRecord
    sent: UInt8Image | None = None
    received: UInt8Image | None = None


class image_sink(Block):  # noqa: N801
    """Write received images, and compare them with the sent ones if these are connected.

    The folder gets ``received/*.png`` as images come, and ``gallery.png`` and ``metrics.json`` when the flowgraph ends.
    An image is lost if the event of a later burst, or the end event, arrives before it.

    Args:
        folder: Output folder; it is made if it does not exist.
        title: First line of the gallery.
        save_images: Whether to write the PNG files.
        gallery: Most images in the gallery, the first of the run.
        queue_size: Most received images that may wait to be written, the oldest are dropped; and most sent images
            that may wait for their received copy, the oldest are counted as lost.
    """

    COUNTERS = ("images", "lost", "errors", "dropped")

    def __init__(
        self,
        folder: str = "out",
        title: str = "Images over the air",
        save_images: bool = True,
        gallery: int = 48,
        queue_size: int = 64,
    ) -> None:
        ports = {"images": "on_image", "sent": "on_sent"}
        super().__init__("CRLSC Image Sink", ports, ("feedback",), queue_size=queue_size)
        self._folder, self._title, self._save_images, self._gallery = Path(folder), title, save_images, gallery
        self.ended = threading.Event()
        """Set when the end event has come; nothing follows it."""
        self.begin()

    def begin(self) -> None:
        """Begin a run with no records."""
        self.images = self.lost = 0
        self.ended.clear()
        self.records: deque[ImageRecord] = deque(maxlen=MOST_RECORDS)
        """A record of each image, in the order of sending."""
        self._open: dict[int, _Open] = {}
        self._early: dict[int, Meta] = {}
        self._cards: list[GalleryEntry] = []

    def end(self) -> None:
        """End a run: write the metrics and the gallery."""
        self._seal(len(self._open))
        metrics = json.dumps(summarise(list(self.records)), indent=2)
        gallery = self.attempt(draw_gallery, self._cards, self._title)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text(self._folder / "metrics.json", metrics + "\n")
            if gallery is not None:
                save_png(self._folder / "gallery.png", gallery)
        except OSError as error:
            self.fail(f"{self._folder}: cannot write the results ({error}); choose another folder")

    def on_sent(self, message: Any) -> None:
        """Keep an original until its received copy comes."""
        if pdu.read_event(message) is not None:
            return
        image, meta = pdu.image_from_pdu(message)
        record = self._record(meta["sequence"], image)
        record.name, record.true_labels = str(meta.get("name", "")), _texts(meta.get("labels"))
        self._keep(_Open(record, sent=image))

    def on_image(self, message: Any) -> None:
        """Take a received image, or an event, which goes back to the source."""
        # The scheduler serves ports in no given order, but an original is always queued before its copy.
        while (original := self.delete_head_nowait(pmt.intern("sent"))) is not None:
            self.attempt(self.on_sent, original)
        event = pdu.read_event(message)
        if event is not None:
            self.attempt(self._take_note, event)
            self.publish("feedback", message)
        elif self.overflows("images"):
            self._give_reason(pdu.sequence_of(message), "dropped: queue of the sink is full")
        else:
            self._receive(*pdu.image_from_pdu(message))

    def _receive(self, image: UInt8Image, meta: Meta) -> None:
        entry = self._open.get(meta["sequence"])
        if entry is None or entry.received is not None:
            entry = _Open(self._record(meta["sequence"], image))
            self._keep(entry)
        record = entry.record
        if event := self._early.pop(record.sequence, None):
            _charge(record, event)
        for key, kind in _META_TYPES.items():
            if isinstance(meta.get(key), kind):
                setattr(record, key, meta[key])
        record.neighbours = _neighbours(meta.get("neighbours"))
        entry.received, record.received, record.reason = image, True, ""
        self.images += 1
        if entry.sent is not None:
            self.attempt(_compare, record, entry.sent, image)
        if self._save_images:
            folder = self._folder / "received"
            folder.mkdir(parents=True, exist_ok=True)
            save_png(folder / _file_name(record), image)

    def _record(self, sequence: int, image: UInt8Image) -> ImageRecord:
        record = ImageRecord(sequence, height=image.shape[0], width=image.shape[1])
        self.records.append(record)
        return record

    def _keep(self, entry: _Open) -> None:
        self._open[entry.record.sequence] = entry
        self._seal(len(self._open) - self.queue_size)

    def _take_note(self, event: Meta) -> None:
        sequence = event.get("sequence", -1)
        if event["event"] == "end":
            self._seal(len(self._open))
            self.ended.set()
        elif event["event"] == "skip":
            self._give_reason(sequence, str(event.get("reason", "")))
        elif sequence in self._open:
            _charge(self._open[sequence].record, event)
            # A receiver may still hold the burst that ends here, but none before it.
            self._seal(list(self._open).index(sequence))
        else:
            # Without originals the image itself is the first that is heard of it.
            self._early[sequence] = event
            while len(self._early) > self.queue_size:
                del self._early[next(iter(self._early))]

    def _give_reason(self, sequence: int | None, reason: str) -> None:
        if sequence in self._open:
            self._open[sequence].record.reason = reason

    def _seal(self, count: int) -> None:
        """Close the ``count`` oldest images; those that have not arrived are lost."""
        for sequence in list(self._open)[: max(0, count)]:
            entry = self._open.pop(sequence)
            self.lost += entry.received is None
            if len(self._cards) < self._gallery:
                self._cards.append(GalleryEntry(entry.record, entry.sent, entry.received))


def _charge(record: ImageRecord, event: Meta) -> None:
    """Record the samples and bytes of the burst of an image."""
    samples, air_bytes = event.get("samples"), event.get("air_bytes")
    if isinstance(samples, int) and isinstance(air_bytes, int):
        record.samples, record.air_bytes = samples, air_bytes


def _compare(record: ImageRecord, sent: UInt8Image, received: UInt8Image) -> None:
    record.psnr_db = min(psnr_db(sent, received), EXACT_PSNR_DB)
    record.ms_ssim = ms_ssim(sent, received)


def _file_name(record: ImageRecord) -> str:
    # File systems take 255 bytes, of which writing aside needs some.
    name = re.sub(r"[^\w.-]+", "_", record.name).encode()[:MOST_NAME_BYTES].decode(errors="ignore")
    return f"{record.sequence:05d}{'-' if name else ''}{name}.png"


def _texts(values: Any) -> list[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _neighbours(values: Any) -> list[Meta]:
    """Return the neighbours in the metadata of an image, without those that lack a field; a base is not required."""
    found = [near for near in values if isinstance(near, dict)] if isinstance(values, list) else []
    typed = [
        {key: near[key] for key, kind in _NEIGHBOUR_TYPES.items() if isinstance(near.get(key), kind)} for near in found
    ]
    return [near for near in typed if near.keys() >= {"label", "name", "score"}]
