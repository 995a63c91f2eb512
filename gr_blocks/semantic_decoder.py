"""Frame PDUs to image PDUs."""

from __future__ import annotations

from typing import Any, Literal

from gr_blocks import pdu
from gr_blocks.codec_block import CodecBlock

__all__ = ["semantic_decoder"]


class semantic_decoder(CodecBlock):  # noqa: N801
    """Turn received semantic frames into images with the decoder and knowledge base of a bundle.

    A frame of another bundle, or a damaged message, is logged and counted; it never becomes a picture.

    Args:
        bundle: Folder of the bundle; it is loaded when the flowgraph starts.
        runtime: What runs the networks.
        neighbours: Most neighbours in the metadata of an image.
        queue_size: Most frames that may wait; the oldest are dropped.
    """

    COUNTERS = ("images", "errors", "dropped")

    def __init__(
        self,
        bundle: str = "",
        runtime: Literal["onnx", "torch"] = "onnx",
        neighbours: int = 3,
        queue_size: int = 64,
    ) -> None:
        super().__init__("CRLSC Semantic Decoder", "frames", "images", queue_size, bundle, runtime)
        self._neighbours = neighbours
        self.images = 0

    def convert(self, message: Any) -> Any:
        """The image PDU of a frame PDU."""
        codec = self.codec("frame is decoded")
        frame, meta = pdu.frame_from_pdu(message)
        result = codec.decode(frame, snr_db=meta.get("detail_snr_db"))
        self.images += 1
        del meta["sequence"], meta["erasures"]
        neighbours = [
            {"label": near.label, "name": near.name, "score": float(near.score)}
            for near in result.neighbours[: self._neighbours]
        ]
        return pdu.image_to_pdu(
            result.image,
            frame.header.sequence,
            **meta,
            label=result.label,
            neighbours=neighbours,
            confidence=float(result.confidence),
        )
