"""Image PDUs to frame PDUs."""

from __future__ import annotations

from typing import Any, Literal

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import BundleError
from gr_blocks import pdu
from gr_blocks.block import MessageBlock

__all__ = ["semantic_encoder"]


class semantic_encoder(MessageBlock):  # noqa: N801
    """Turn images into semantic frames with the encoder of a bundle.

    Args:
        bundle: Folder of the bundle; it is loaded when the flowgraph starts.
        runtime: What runs the networks.
        queue_size: Most images that may wait; the oldest are dropped.
    """

    COUNTERS = ("frames", "errors", "dropped")

    def __init__(self, bundle: str = "", runtime: Literal["onnx", "torch"] = "onnx", queue_size: int = 64) -> None:
        super().__init__("CRLSC Semantic Encoder", "images", "frames", queue_size)
        self._bundle, self._runtime = bundle, runtime
        self._codec: SemanticCodec | None = None
        self.frames = 0

    def start(self) -> bool:
        """Load the bundle."""
        self._codec = self._codec or self.attempt(lambda: SemanticCodec.load(self._bundle, runtime=self._runtime))
        return True

    def convert(self, message: Any) -> Any:
        """The frame PDU of an image PDU."""
        if self._codec is None:
            raise BundleError(f"{self._bundle}: bundle is not loaded, so no image is encoded")
        image, meta = pdu.image_from_pdu(message)
        frame = self._codec.encode(image, sequence=meta["sequence"] & 0xFFFF)
        self.frames += 1
        return pdu.frame_to_pdu(frame)
