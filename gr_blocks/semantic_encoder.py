"""Image PDUs to frame PDUs."""

from __future__ import annotations

from typing import Any, Literal

from crlsc_phy.errors import ImageError
from crlsc_phy.net.messages import encode_message
from gr_blocks import pdu
from gr_blocks.codec_block import CodecBlock

__all__ = ["semantic_encoder"]


class semantic_encoder(CodecBlock):  # noqa: N801
    """Turn images into semantic frames with the encoder of a bundle.

    Args:
        bundle: Folder of the bundle; it is loaded when the flowgraph starts.
        runtime: Library that runs the networks.
        mode: Detail layer made: ``digital`` of tokens, ``analog`` of complex symbols.
        queue_size: Most images that may wait; the oldest are dropped.
        encoder: Name of one of the bundle's encoders; empty for its first one.
    """

    COUNTERS = ("frames", "errors", "dropped")

    def __init__(
        self,
        bundle: str = "",
        runtime: Literal["onnx", "torch"] = "onnx",
        mode: Literal["digital", "analog"] = "digital",
        queue_size: int = 64,
        encoder: str = "",
    ) -> None:
        super().__init__(
            "CRLSC Semantic Encoder", "images", "frames", queue_size, bundle, runtime=runtime, encoder=encoder
        )
        self._mode = mode
        self.frames = 0

    def convert(self, message: Any) -> Any:
        """Return the frame PDU of an image PDU."""
        meta, data = encode_message(self.codec, *pdu.read_pdu(message, ImageError), self._mode)
        self.frames += 1
        return pdu.make_pdu(meta, data)
