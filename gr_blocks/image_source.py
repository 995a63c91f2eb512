"""Image files to image PDUs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pmt

from crlsc_phy.errors import safe_text
from crlsc_phy.images import UInt8Image, find_images, fit_within, load_image, read_labels
from gr_blocks import pdu
from gr_blocks.block import Block

__all__ = ["image_source"]


class image_source(Block):  # noqa: N801
    """Send the image files of a folder, in the order of their names.

    Args:
        path: An image file, or a folder of them. ``index.json`` beside the files, a list of
            ``{"file": ..., "label": ..., "also": [...]}``, gives the best label of each and other right ones.
        repeat: Start again after the last image. Without it the source sends an end event and, once that event comes
            back at ``feedback``, ends the flowgraph.
        rate: Images a second; 0 for as fast as the flow allows.
        in_flight: Most images that may be under way. Messages have no back-pressure, so the source holds the next
            image until ``feedback`` tells that an earlier one has left; connect it to the ``feedback`` port of the
            last block. 0 for a source that does not listen and never ends by itself.
        max_side: Images with a longer side, in pixels, are reduced to it, because the codec takes sides of up to 1024;
            0 to send them as they are.
    """

    COUNTERS = ("images", "errors")

    def __init__(
        self, path: str = "", repeat: bool = False, rate: float = 0.0, in_flight: int = 8, max_side: int = 1024
    ) -> None:
        super().__init__("CRLSC Image Source", {"feedback": "on_feedback"}, ("images",))
        self._path, self._repeat, self._rate = Path(path), repeat, rate
        self._in_flight, self._max_side = in_flight, max_side
        self._under_way: set[int] = set()
        self._moved = threading.Condition()
        self._stopping = False
        self.images = 0

    def begin(self) -> None:
        """Begin to send, from a thread of its own: a message block is never called unless a message comes."""
        self._stopping = False
        self._under_way.clear()
        self.start_thread(self._run)

    def end(self) -> None:
        """Stop sending."""
        with self._moved:
            self._stopping = True
            self._moved.notify_all()

    def on_feedback(self, message: Any) -> None:
        """Take note of an image that has left, or of the end event that has come back."""
        event = pdu.read_event(message)
        if event is None:
            self.fail("feedback message is not an event; connect the feedback port of the last block")
        elif event["event"] == "end":
            # This is how the scheduler itself tells blocks that no message will follow.
            self._post(pmt.intern("system"), pmt.cons(pmt.intern("done"), pmt.from_long(1)))
        else:
            with self._moved:
                self._under_way.discard(event.get("sequence", -1))
                self._moved.notify_all()

    def _run(self) -> None:
        self.attempt(self._send_all)
        if not self._stopping:
            self.publish("images", pdu.end_event())

    def _send_all(self) -> None:
        due = time.monotonic()
        for path, image, labels in self._read_all():
            if not self._may_send(due):
                return
            due = max(due, time.monotonic() - 1) + (1 / self._rate if self._rate > 0 else 0)
            self.attempt(self._send, path, image, labels)

    def _send(self, path: Path, image: UInt8Image, labels: list[str]) -> None:
        sequence = self.images & 0xFFFF
        message = pdu.image_to_pdu(image, sequence, name=safe_text(path.stem), labels=labels)
        with self._moved:
            self._under_way.add(sequence)
        self.images += 1
        self.publish("images", message)

    def _read_all(self) -> Iterator[tuple[Path, UInt8Image, list[str]]]:
        paths = [self._path]
        if self._path.is_dir():
            paths = self.attempt(find_images, self._path) or []
        labels = (self.attempt(read_labels, self._path) or {}) if paths else {}
        while paths and not self._stopping:
            readable = []
            for path in paths:
                image = self.attempt(self._read, path)
                if image is not None:
                    readable.append(path)
                    yield path, image, labels.get(path.name, [])
            paths = readable if self._repeat else []

    def _read(self, path: Path) -> UInt8Image:
        image = load_image(path)
        return fit_within(image, self._max_side) if self._max_side else image

    def _may_send(self, due: float) -> bool:
        """Wait until an image may go; return False if the block stops meanwhile."""
        with self._moved:
            while not self._stopping:
                pause = due - time.monotonic()
                full = 0 < self._in_flight <= len(self._under_way)
                if not full and pause <= 0:
                    return True
                self._moved.wait(None if full else pause)
            return False
