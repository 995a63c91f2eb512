"""Frame PDUs to image PDUs."""

from __future__ import annotations

import time
from typing import Any, Literal

from crlsc_phy.errors import FrameError
from crlsc_phy.net.messages import NEIGHBOURS, decode_message
from gr_blocks import pdu
from gr_blocks.codec_block import CodecBlock

__all__ = ["semantic_decoder"]

LOOK_EVERY_S = 1.0


class semantic_decoder(CodecBlock):  # noqa: N801
    """Turn received semantic frames into images with the decoder and knowledge base of a bundle.

    A frame of another bundle, or a damaged message, is logged and counted; it never becomes a picture. A lost air code
    is repaired with the knowledge bases where possible. New entries of a knowledge base are used without a restart.

    Args:
        bundle: Folder of the bundle; it is loaded when the flowgraph starts.
        runtime: Library that runs the networks.
        neighbours: Most neighbours in the metadata of an image.
        queue_size: Most frames that may wait; the oldest are dropped.
        private: Folder of a private knowledge base to search beside the bundle's; empty for none.
    """

    COUNTERS = ("images", "repaired", "errors", "dropped")

    def __init__(
        self,
        bundle: str = "",
        runtime: Literal["onnx", "torch"] = "onnx",
        neighbours: int = NEIGHBOURS,
        queue_size: int = 64,
        private: str = "",
    ) -> None:
        kept = [private] if private else []
        super().__init__(
            "CRLSC Semantic Decoder", "frames", "images", queue_size, bundle, runtime=runtime, private=kept
        )
        self._neighbours = neighbours
        self._next_look = 0.0
        self.images = self.repaired = 0

    def convert(self, message: Any) -> Any:
        """Return the image PDU of a frame PDU."""
        self._refresh()
        meta, data = decode_message(self.codec, *pdu.read_pdu(message, FrameError), self._neighbours)
        self.images += 1
        self.repaired += meta["repaired"]
        return pdu.make_pdu(meta, data)

    def _refresh(self) -> None:
        """Look for newer generations of the knowledge bases, such as ``crlsc-kb pull`` brings."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_EVERY_S
        for line in self.attempt(self.codec.refresh) or []:
            self.fail(line)
