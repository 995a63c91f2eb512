"""Frame PDUs to image PDUs."""

from __future__ import annotations

import time
from typing import Any, Literal

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import FrameError
from crlsc_phy.net.messages import NEIGHBOURS, decode_message
from gr_blocks import pdu
from gr_blocks.codec_block import CodecBlock

__all__ = ["semantic_decoder"]

LOOK_EVERY_S = 1.0


class semantic_decoder(CodecBlock):  # noqa: N801
    """Turn received semantic frames into images with the decoder and knowledge base of a bundle.

    A frame of another bundle, or a damaged message, is logged and counted; it never becomes a picture. A lost air code
    is repaired with the knowledge bases if it can be. What is added to a knowledge base meanwhile is taken up.

    Args:
        bundle: Folder of the bundle; it is loaded when the flowgraph starts.
        runtime: What runs the networks.
        neighbours: Most neighbours in the metadata of an image.
        queue_size: Most frames that may wait; the oldest are dropped.
        private: Folder of a knowledge base of one's own to look into beside the bundle's, or none.
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
        super().__init__("CRLSC Semantic Decoder", "frames", "images", queue_size, bundle, runtime, private)
        self._neighbours = neighbours
        self._next_look = 0.0
        self.images = self.repaired = 0

    def convert(self, message: Any) -> Any:
        """The image PDU of a frame PDU."""
        codec = self.codec("frame is decoded")
        self._look_for_new_entries(codec)
        meta, data = decode_message(codec, *pdu.read_pdu(message, FrameError), self._neighbours)
        self.images += 1
        self.repaired += meta["repaired"]
        return pdu.make_pdu(meta, data)

    def _look_for_new_entries(self, codec: SemanticCodec) -> None:
        """Take up newer generations of the knowledge bases, such as a pull has brought, without a restart."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_EVERY_S
        for line in codec.refresh():
            self.fail(line)
