"""What the semantic encoder and decoder share: the codec of a bundle, loaded when the flowgraph starts."""

from __future__ import annotations

from typing import Literal

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import BundleError
from gr_blocks.block import MessageBlock

__all__ = ["CodecBlock"]


class CodecBlock(MessageBlock):
    """A message block that works with the codec of a bundle.

    Args:
        name, source, target, queue_size: As for :class:`MessageBlock`.
        bundle: Folder of the bundle.
        runtime: What runs the networks.
        private: Folder of a private knowledge base, or none.
        encoder: Which of the bundle's encoders; its first one if empty.
    """

    def __init__(
        self,
        name: str,
        source: str,
        target: str,
        queue_size: int,
        bundle: str,
        runtime: Literal["onnx", "torch"],
        private: str = "",
        encoder: str = "",
    ) -> None:
        super().__init__(name, source, target, queue_size)
        self._bundle, self._runtime = bundle, runtime
        self._private = [private] if private else []
        self._encoder = encoder
        self._codec: SemanticCodec | None = None

    def start(self) -> bool:
        """Load the bundle."""
        self._codec = self._codec or self.attempt(
            lambda: SemanticCodec.load(
                self._bundle, runtime=self._runtime, private=self._private, encoder=self._encoder
            )
        )
        return True

    def codec(self, purpose: str) -> SemanticCodec:
        """The codec.

        Raises:
            BundleError: If it could not be loaded, so that ``purpose`` cannot be.
        """
        if self._codec is None:
            raise BundleError(f"{self._bundle}: bundle is not loaded, so no {purpose}")
        return self._codec
